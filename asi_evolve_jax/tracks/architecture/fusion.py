"""Renders what runs beside the memory, and how all of it is fused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asi_evolve_jax.tracks.architecture import parts
from asi_evolve_jax.tracks.architecture.writer import Writer

Genes = Mapping[str, Any]


def fuse(w: Writer, genome: Genes) -> None:
  """Adds the paths that the genome has, and `o`, what becomes of them."""
  names = _paths(w, genome)
  if names:
    _fusion(w, genome, ["o", *names])


def _paths(w: Writer, genome: Genes) -> list[str]:
  """Adds what runs beside the memory; returns the variables' names."""
  names = []
  second = genome["second_path"]
  if second != "none":
    tokens = parts.SECOND_RATES[second]
    w.comment(f"{second.capitalize()} memory: forgets over {tokens} tokens.")
    w.add(f"{second}_g = jnp.full(k.shape[:3], -1 / {tokens})")
    w.operate(second, "linear_attention", f"q, k, v, {second}_g", second)
    names.append(second)
  local = parts.LOCAL_PATHS[genome["local_path"]]
  if set(local) & set(parts.FILTER_TAPS):
    w.add("\nflat_v = v.reshape(*x.shape[:2], -1)")
  for path in local:
    taps = parts.FILTER_TAPS.get(path)
    if taps is None:
      names.append("v")
      continue
    w.param(f"taps = jnp.zeros(({taps}, heads * value_dim), jnp.float32)")
    w.param(f"self.taps_{path} = nnx.Param(taps.at[0].set(1.0))")
    w.comment(
      f"Local path: a causal filter of {taps} taps over values, the identity "
      "at first (2507.18074)."
    )
    w.add(f'{path} = split(conv("{path}", flat_v, self.taps_{path}[...]))')
    w.carry(path, f"({taps - 1}, heads * value_dim)")
    names.append(path)
  return names


def _fusion(w: Writer, genome: Genes, names: list[str]) -> None:
  kind, count = genome["fusion"], len(names)
  normed = genome["path_norm"] == "rms"
  if normed:
    w.helpers.add("rms")
  if kind == "sum":
    w.comment(f"Sum of {'normalised ' if normed else ''}paths.")
    if normed:
      w.add(f"o = sum(rms_norm(path) for path in ({', '.join(names)}))")
    else:
      w.add(f"o = {' + '.join(names)}")
    return
  w.comment(f"Paths along axis 3: {', '.join(names)}.")
  w.add(f"paths = jnp.stack([{', '.join(names)}], axis=3).astype(jnp.float32)")
  if kind == "scalar":
    w.param(f"self.mix = nnx.Param(jnp.ones((heads, {count}), jnp.float32))")
    gates = "self.mix[...]"
  else:
    gates = "gates"
    _path_gates(w, genome, count)
  if normed:
    w.add("paths = rms_norm(paths)")
  w.add(f"o = jnp.sum({gates}[..., None] * paths, axis=3)")


def _path_gates(w: Writer, genome: Genes, count: int) -> None:
  w.param(f"self.w_mix = weight(dim, heads * {count})")
  source = (
    "softmax over paths"
    if "softmax" in genome["fusion"]
    else "one sigmoid each"
  )
  w.comment(f"Path gates a head and token: {source} (2507.18074).")
  w.add("logits = split(project(self.w_mix)).astype(jnp.float32)")
  if genome["gate_input"] == "statistics":
    w.param(
      f"self.w_size = nnx.Param(jnp.zeros((heads, {count}, {count}), "
      "jnp.float32))"
    )
    w.comment("The gates also see how large each path is.")
    w.add("""
      size = jnp.log(jnp.mean(paths * paths, axis=-1) + 1e-6)
      logits = logits + jnp.einsum("bthn,hnm->bthm", size, self.w_size[...])
      """)
  if genome["fusion"] == "softmax_temperature":
    w.param("self.sharpness = nnx.Param(jnp.zeros((heads, 1), jnp.float32))")
    w.add("logits = logits * jnp.exp(self.sharpness[...])")
  sigmoid = genome["fusion"] == "sigmoid"
  w.add(
    "gates = jax.nn.sigmoid(logits)"
    if sigmoid
    else "gates = jax.nn.softmax(logits, axis=-1)"
  )
  floor = genome["gate_floor"]
  if floor:
    rest = round(1 - (floor if sigmoid else count * floor), 4)
    w.comment("No path is ever closed.")
    w.add(f"gates = {floor} + {rest} * gates")
