"""Renders a genome to the source of a `TokenMixer`.

Only what the genome switches on appears. Each function below adds lines to
the constructor and to the call, in the order in which a token passes them;
texts that are merely looked up are in `parts.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asi_evolve_jax.tracks.architecture import parts
from asi_evolve_jax.tracks.architecture.fusion import fuse
from asi_evolve_jax.tracks.architecture.writer import (
  CONV,
  PROJECT_PLACE,
  SPLIT,
  WEIGHT,
  Writer,
)

Genes = Mapping[str, Any]


def render(genome: Genes, title: str) -> str:
  """Returns the module for a canonical genome of ArchitectureSpace.

  Args:
    genome: all genes, repaired.
    title: one line that goes into the docstring.
  """
  w = Writer()
  _sizes(w, genome)
  _input(w, genome)
  _projections(w, genome)
  _decay(w, genome)
  _addresses(w, genome)
  _writing(w, genome)
  _memory(w, genome)
  fuse(w, genome)
  _output(w, genome)
  return w.module(title)


def _sizes(w: Writer, genome: Genes) -> None:
  w.param("dim = config.dim")
  w.param(parts.HEADS[genome["heads"]].strip("\n"))
  wide = genome["expand_v"] == 2
  w.param("value_dim = 2 * key_dim" if wide else "value_dim = key_dim")
  w.param("self.heads = heads")
  w.param("self.key_dim, self.value_dim = key_dim, value_dim")
  w.param(f"self.chunk_size = {parts.CHUNKS[genome['chunk']]}")
  if genome["block"]:
    w.schedule.append(f"block_heads={genome['block']}")
  if genome["decay"] == "vector":
    bounded = genome["decay_param"] in parts.BOUNDED
    if genome["sub_chunk"] != "most":
      most = 16 if bounded else 4
      tokens = most // {"half": 2, "quarter": 4}[genome["sub_chunk"]]
      w.schedule.append(f"sub_chunk={tokens}")
    if bounded:
      w.schedule.append("min_log_decay=-5.0")
  w.param(WEIGHT)


def _input(w: Writer, genome: Genes) -> None:
  local = parts.LOCAL_PATHS[genome["local_path"]]
  shifts = genome["token_shift"] == "lerp"
  if genome["conv"] or shifts or set(local) & set(parts.FILTER_TAPS):
    w.operators.add("short_conv")
    w.add(CONV)
  w.add(PROJECT_PLACE)
  w.add(SPLIT)
  if shifts:
    w.param("self.shift = nnx.Param(jnp.zeros((dim,), jnp.float32))")
    w.comment(
      "Token shift (RWKV, 2404.05892): channels blend in the token before."
    )
    w.add("""
      share = jax.nn.sigmoid(self.shift[...])
      x = conv("x", x, jnp.stack([1 - share, share]))
      """)
    w.carry("x", "(1, self.shift.shape[0])")


def _projections(w: Writer, genome: Genes) -> None:
  shared = genome["qk_heads"] == "shared"
  # A tied key is made by the decay; it has nothing to project or convolve.
  names = ["q", "v"] if genome["key_tie"] == "forget" else ["q", "k", "v"]
  taps = genome["conv"]
  convolved = [n for n in names if taps and n in genome["conv_on"]]
  comment = f"Projections to {', '.join(names)}"
  if shared:
    comment += ", q and k shared by the heads (Mamba-2, 2405.21060)"
  if convolved:
    comment += f"; short convolution of {taps} taps on {', '.join(convolved)}"
    if "v" in convolved:
      comment += ", then SiLU on v"
  w.comment(comment + ".")
  for name in names:
    if name == "v":
      width = "heads * value_dim"
    else:
      width = "key_dim" if shared else "heads * key_dim"
    w.param(f"self.w_{name} = weight(dim, {width})")
    value = f"project(self.w_{name})"
    if name in convolved:
      w.param(f"self.taps_{name} = weight({taps}, {width})")
      value = f'conv("{name}", {value}, self.taps_{name}[...])'
      w.carry(name, f"({taps - 1}, {width})")
      if name == "v":
        value = f"jax.nn.silu({value})"
    one_head = shared and name != "v"
    w.add(
      f"{name} = {value}[:, :, None]"
      if one_head
      else f"{name} = split({value})"
    )


def _decay(w: Writer, genome: Genes) -> None:
  kind, form = genome["decay"], genome["decay_param"]
  if kind == "none":
    return
  w.helpers.add(f"rates_{genome['decay_init']}")
  if kind == "fixed":
    w.comment("Fixed decay, one a head (RetNet, 2307.08621).")
    w.add("""
      rate = decay_rates(self.heads)
      g = jnp.broadcast_to(-rate, (*x.shape[:2], self.heads))
      """)
    return
  vector = kind == "vector"
  w.param(parts.DECAY_START[form])
  if vector:
    w.param("start = jnp.tile(start[:, None], (1, key_dim))")
  w.param("self.decay_bias = nnx.Param(start)")
  each = "channel" if vector else "head"
  w.comment(f"Decay, one a {each} and token: {parts.DECAY_COMMENT[form]}.")
  if not vector:
    w.param("self.w_decay = weight(dim, heads)")
    w.add("z = project(self.w_decay).astype(jnp.float32)")
  elif genome["key_tie"] == "forget":
    w.param("self.w_decay = weight(dim, heads * key_dim)")
    w.add("z = split(project(self.w_decay)).astype(jnp.float32)")
  else:
    w.low_rank("decay", "heads * key_dim")
    w.add("""
      z = split(project(self.decay_in, self.decay_out)).astype(jnp.float32)
      """)
  w.add("z = z + self.decay_bias[...]")
  if form == "exp":
    shape = "(heads, 1)" if vector else "(heads,)"
    w.param(f"self.log_a = nnx.Param(jnp.zeros({shape}, jnp.float32))")
    if genome["step_tie"] == "write":
      w.add("step = jax.nn.softplus(z)")
      w.add("g = -jnp.exp(self.log_a[...]) * step")
    else:
      w.add("g = -jnp.exp(self.log_a[...]) * jax.nn.softplus(z)")
  elif form == "sigmoid":
    w.add("g = jax.nn.log_sigmoid(z) / 16")
  elif form == "bounded":
    w.add("g = -5 * jax.nn.sigmoid(z)")
  else:
    w.add("""
      floor = 0.01 + 0.9 * ctx.depth
      g = jnp.log(floor + (1 - floor) * jax.nn.sigmoid(z))
      """)
  if genome["key_tie"] == "forget":
    w.comment("The key is what the decay leaves free (HGRN2, 2404.07904).")
    w.add("k = -jnp.expm1(g).astype(x.dtype)")


def _addresses(w: Writer, genome: Genes) -> None:
  tied = genome["key_tie"] == "forget"
  if genome["feature_map"] != "identity":
    form = parts.FEATURE_MAPS[genome["feature_map"]]
    mapped = ["q"] if tied else ["q", "k"]
    w.comment(f"Feature map of {' and '.join(mapped)}.")
    for name in mapped:
      w.add(f"{name} = {form.format(name)}")
  if genome["qk_norm"] != "none":
    w.helpers.add(genome["qk_norm"])
    w.comment("Normalised queries and keys.")
    w.add("q, k = normalise(q), normalise(k)")
  if genome["erase_key"] == "own":
    w.param("self.w_remove = weight(dim, heads * key_dim)")
    w.comment("What is erased has a key of its own (RWKV-7, 2503.14456).")
    w.add("remove = normalise(split(project(self.w_remove)))")
  if genome["rotation"] != "none":
    _rotation(w, genome)
  if genome["qk_heads"] == "shared":
    w.add("""
      shape = (*x.shape[:2], self.heads, k.shape[-1])
      q, k = jnp.broadcast_to(q, shape), jnp.broadcast_to(k, shape)
      """)


def _rotation(w: Writer, genome: Genes) -> None:
  by_content = genome["rotation"] == "data"
  w.helpers.add("rotate")
  frequencies = """
    half = k.shape[-1] // 2
    frequency = 10_000.0 ** -(jnp.arange(half) / half)
    """
  if by_content:
    w.param("self.w_angle = weight(dim, key_dim // 2)")
    w.comment(
      "Rotation by an angle that tokens add to, each as much as it says "
      "(Mamba-3, 2603.15569)."
    )
    w.add(frequencies)
    w.add("""
      turn = 2 * jax.nn.sigmoid(project(self.w_angle).astype(jnp.float32))
      angle = state.get("angle", 0) + jnp.cumsum(turn * frequency, axis=1)
      after["angle"] = angle[:, -1:] % (2 * jnp.pi)
      angle = angle[:, :, None]
      """)
    w.carry("angle", "(1, key_dim // 2)")
  else:
    w.comment("Rotation by position (RoPE, 2104.09864).")
    w.add(frequencies)
    w.add("""
      place = state.get("place", 0) + jnp.arange(x.shape[1])[:, None]
      after["place"] = place[..., -1:, :] + 1
      angle = (place * frequency)[..., None, :]
      """)
    w.carry("place", "(1, 1)")
  w.add("q, k = rotate(q, angle), rotate(k, angle)")
  if genome["erase_key"] == "own":
    w.add("remove = rotate(remove, angle)")


def _writing(w: Writer, genome: Genes) -> None:
  """Makes what is written and read back, where gates make them differ."""
  gate, erase = genome["write_gate"], genome["erase"]
  delta = genome["update"] == "delta"
  top = "2 * " if genome["beta"] == "negative" else ""
  value = "v"
  if genome["step_tie"] == "write":
    w.comment("Written in the decay's steps (Mamba-2, 2405.21060).")
    w.add("written = (v * step[..., None]).astype(x.dtype)")
    value = "written"
  if gate != "none":
    w.comment(f"Write gate, one a {_CHANNEL.get(gate, gate)}.")
    # A tied gate also erases: its range is the range of the eigenvalues.
    tied = delta and erase in ("tied", "feedback")
    _gate(w, genome, "write", "value_dim", gate, top if tied else "")
    if _operator_scales(genome):
      return
    factor = "write" if gate == "channel" else "write[..., None]"
    w.add(f"written = ({value} * {factor}).astype(x.dtype)")
  if not delta:
    return
  key = _erased_key(genome)
  if erase in ("head", "channel"):
    each = "head" if erase == "head" else "key channel (GDN-2, 2605.22791)"
    w.comment(f"Erase gate, one a {each}.")
    _gate(w, genome, "erase", "key_dim", erase, top)
    factor = "erase" if erase == "channel" else "erase[..., None]"
    w.add(f"p = ({key} * {factor}).astype(x.dtype)")
  elif erase == "feedback":
    w.param("self.feedback = nnx.Param(jnp.full((heads,), 2.0, jnp.float32))")
    w.comment(
      "Erased is a learned share of what is written (Comba, 2506.02475)."
    )
    share = "jax.nn.sigmoid(self.feedback[...])"
    if gate == "head":
      w.add(f"erase = write * {share}")
      w.add(f"p = ({key} * erase[..., None]).astype(x.dtype)")
    else:
      w.add(f"p = ({key} * {share}[:, None]).astype(x.dtype)")
  elif gate == "head":
    w.add(f"p = ({key} * write[..., None]).astype(x.dtype)")


def _erased_key(genome: Genes) -> str:
  """Returns the variable along which the state is erased."""
  return "remove" if genome["erase_key"] == "own" else "k"


def scales_both(genome: Genes) -> bool:
  """Whether one rate a head scales what is written and what is erased."""
  same = genome["update"] == "delta" and genome["erase"] == "tied"
  same = same and genome["erase_time"] == "after"
  return same and genome["write_gate"] == "head" and genome["read"] != "bonus"


def _operator_scales(genome: Genes) -> bool:
  """Whether `gated_delta_rule` forms what is written and erased itself.

  Its TPU kernel then reads two arrays fewer, and works more.
  """
  return scales_both(genome) and genome["scaling"] == "kernel"


_CHANNEL = {"channel": "value channel (GDN-2, 2605.22791)"}


def _gate(
  w: Writer, genome: Genes, name: str, width: str, each: str, top: str
) -> None:
  """Adds a sigmoid gate `name` a head or a channel, times `top`."""
  if each == "channel":
    w.low_rank(name, f"heads * {width}")
    logit = f"split(project(self.{name}_in, self.{name}_out))"
    shape = f"(heads, {width})"
  else:
    w.param(f"self.w_{name} = weight(dim, heads)")
    logit, shape = f"project(self.w_{name})", "(heads,)"
  w.add(f"logit = {logit}.astype(jnp.float32)")
  start = genome["gate_bias"]
  if start in ("open", "closed"):
    value = 2.0 if start == "open" else -2.0
    w.param(
      f"self.{name}_bias = nnx.Param(jnp.full({shape}, {value}, jnp.float32))"
    )
    w.add(f"logit = logit + self.{name}_bias[...]")
  elif start == "deep":
    w.param(
      f"self.{name}_slope = nnx.Param(jnp.full({shape}, 4.0, jnp.float32))"
    )
    w.add(f"logit = logit + self.{name}_slope[...] * (ctx.depth - 0.5)")
  w.add(f"{name} = {top}jax.nn.sigmoid(logit)")


def _memory(w: Writer, genome: Genes) -> None:
  gate = genome["write_gate"]
  plain = gate == "none" and genome["step_tie"] == "none"
  value = "v" if plain else "written"
  # With neither gate the state is overwritten outright.
  key = _erased_key(genome)
  back = key if gate == "none" and genome["erase"] == "tied" else "p"
  if genome["read"] == "corrected":
    w.param("self.correction = nnx.Param(jnp.full((heads, 1), 0.02))")
    w.comment(
      "Read with the query less a learned share of the key (Comba, 2506.02475)."
    )
    w.add("q = q - (k * self.correction[...]).astype(x.dtype)")
  decayed = "" if genome["decay"] == "none" else "a "
  last = "" if genome["decay"] == "none" else ", g"
  if _operator_scales(genome):
    w.comment(
      f"Delta rule: S <- {decayed}S + write k (v - ({decayed}S)^T k)^T."
    )
    w.operate("o", "gated_delta_rule", f"q, k, v, write{last}", "memory")
  elif genome["erase_time"] == "before":
    w.comment(
      "Delta rule that erases what the undecayed state holds: "
      f"S <- a S - {key} (S^T {back})^T + k {value}^T."
    )
    arguments = f"q, k, {value}, {back}, -{key}{last}"
    w.operate("o", "dplr_delta_rule", arguments, "memory")
  elif genome["update"] == "delta":
    w.comment(
      f"Delta rule: S <- {decayed}S + k ({value} - ({decayed}S)^T {back})^T."
    )
    w.operate("o", "delta_rule", f"q, k, {value}, {back}{last}", "memory")
  else:
    w.comment(f"Additive memory: S <- {decayed}S + k {value}^T.")
    w.operate("o", "linear_attention", f"q, k, {value}{last}", "memory")
  if genome["read"] == "bonus":
    w.param("self.bonus = nnx.Param(jnp.zeros((heads, key_dim), jnp.float32))")
    w.comment("Extra weight on the current token (RWKV-6, 2404.05892).")
    w.add(f"""
      match = jnp.sum(q * self.bonus[...] * k, axis=-1, keepdims=True)
      o = o + (match * {value}).astype(x.dtype)
      """)


def _output(w: Writer, genome: Genes) -> None:
  norm, gate = genome["out_norm"], genome["out_gate"]
  if norm in ("rms", "layer"):
    w.helpers.add(norm)
    w.param("self.gain = nnx.Param(jnp.ones((value_dim,), jnp.float32))")
    w.comment(f"{'RMS' if norm == 'rms' else 'Layer'} norm of each head.")
    w.add(f"o = {norm}_norm(o) * self.gain[...]")
  else:
    w.comment("Output.")
  w.add("o = o.reshape(*x.shape[:2], -1)")
  if norm == "full":
    w.helpers.add("rms")
    w.param(
      "self.gain = nnx.Param(jnp.ones((heads * value_dim,), jnp.float32))"
    )
    w.add("o = rms_norm(o) * self.gain[...]")
  if gate in ("silu", "sigmoid"):
    w.param("self.w_gate = weight(dim, heads * value_dim)")
    w.add(f"o = o * jax.nn.{gate}(project(self.w_gate))")
  elif gate == "low_rank":
    w.low_rank("gate", "heads * value_dim")
    w.add("o = o * jax.nn.sigmoid(project(self.gate_in, self.gate_out))")
  w.param("self.w_o = weight(heads * value_dim, dim)")
  y = "o.astype(x.dtype) @ self.w_o[...].astype(x.dtype)"
  scale = genome["out_scale"]
  if scale == "learned":
    w.param("self.scale = nnx.Param(jnp.ones((dim,), jnp.float32))")
    w.add(f"y = {y}")
    w.add("return (y * self.scale[...]).astype(x.dtype), after")
  elif scale == "depth":
    w.add(f"y = {y}")
    w.comment("Later layers speak more softly.")
    w.add("y = y * jax.lax.rsqrt(1 + 3 * ctx.depth)")
    w.add("return y.astype(x.dtype), after")
  else:
    w.add(f"return {y}, after")
