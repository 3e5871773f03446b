"""The trusted stage that judges what trace.py sent, and makes the Artifact.

It reads exported computations and never a candidate's Python: what they say
about themselves is checked or computed again. What passes is the Artifact that
trains, byte for byte what was judged.

Longer Artifacts: `RungOptions.more_times` names further lengths, in tokens,
that the Artifact keeps beside its own. `artifact.load(payload).apply` runs at
all of `header.times`, with the same parameters.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from asi_evolve_jax.evaluation import cost, derivative_gates, gates
from asi_evolve_jax.evaluation.stages import StageReply, StageRequest
from asi_evolve_jax.models.language_model import layer_depths
from asi_evolve_jax.models.sizes import flops_per_token, parameter_count
from asi_evolve_jax.programs import artifact, bundle, fingerprint
from asi_evolve_jax.records.schema import VERIFY
from asi_evolve_jax.tracks.architecture import contract, forms, kernel_gates
from asi_evolve_jax.tracks.architecture.options import (
  CPU,
  StageOptions,
  read_stage,
)
from asi_evolve_jax.tracks.architecture.probe import Layer, Probe

# Of the mesh on which a sharded run is compared with one on a single device.
_DEVICES = 8
_COTANGENTS = 3
_MOST_DEPTHS = 8  # that the cheap gates ask
_CAUSALITY_RUNS = 16  # over all depths, of a batch of cuts each
# FLOPs a parameter that the constructor may take: random numbers are 160, a
# factorisation for orthogonal rows some more an element of a row. Training in
# it would take six a token, and so get nowhere.
_INIT_FLOPS = 1000
_INIT_FLOPS_A_ROW = 8
_FEW_PARAMETERS = 4096  # as many are granted to a mixer that has fewer
_COMPILING = 0.7  # share of the deadline that compiling for the target has


def run(request: StageRequest, seed: int | None = None) -> StageReply:
  """Judges the bundle in `request.payload`; see the module.

  Args:
    request: of the stage.
    seed: of inputs, depths and cuts, below 2^32. None, as in a run: one that no
      author of a Program can foresee.

  Returns:
    "ok" with the Artifact as payload, or "rejected" with the gate and what to
    change. The report holds "artifact_hash", counts and costs, "gate_seconds",
    and "gate_seed" in hex digits, with which the same is asked again.
  """
  options = read_stage(request.options)
  _only_cpu(_DEVICES if options.purpose == VERIFY else 1)
  seed = secrets.randbits(32) if seed is None else seed
  case = Case(request.payload, options, seed, request.deadline_s)
  verdict = gates.judge(case.gates(), _explain)
  report = {**case.report, "gate_seconds": verdict.seconds}
  if not verdict.passed:
    return StageReply(
      status="rejected",
      gate=verdict.gate,
      error=verdict.message,
      report=report,
    )
  if options.modelled_cycles_weight and "modelled_cycles" not in report:
    return StageReply(
      status="failed",
      error="modelled cycles are part of the fitness, and this machine has "
      f"none to tell: {report['preflight']}. Install the extra [tpu-aot] where "
      "Engineers run, give the rung a longer deadline_s, or set "
      "track_options.fitness.modelled_cycles_weight to 0.",
      report=report,
    )
  return StageReply(payload=case.payload, report=report)


def _explain(error: BaseException) -> str:
  if isinstance(error, artifact.ArtifactError):
    return str(error)
  return f"{type(error).__name__}: {error}"


def _only_cpu(devices: int) -> None:
  """Keeps this process off accelerators, with so many CPU devices."""
  try:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
  except RuntimeError:
    pass  # JAX is in use here already: a test, not a worker


class Case:
  """One bundle on its way through the gates; each leaves what the next needs.

  Attributes:
    payload: the Artifact, after the gate "artifact".
    report: what is known so far.
    depths: float32, of the layers that are asked, in the order that they are.
  """

  def __init__(
    self,
    payload: bytes,
    options: StageOptions,
    seed: int = 0,
    deadline_s: float = 600.0,
  ):
    self.payload = b""
    self.report: dict[str, Any] = {
      "platform": options.platform,
      "gate_seed": f"{seed:08x}",
    }
    self._seed = seed
    self._rng = np.random.default_rng(seed)
    every = layer_depths(options.model.layers)
    self.depths = self._rng.permutation(every)[:_MOST_DEPTHS]
    self._depth = self.depths[0]  # for gates that can afford one layer only
    self._bundle = payload
    self._deadline_s = deadline_s
    self._options = options
    self._forms = forms.forms(options)
    self._data: dict[str, bytes] = {}

  def _kernel_gates(self) -> Iterator[gates.Gate]:
    if forms.KERNELS in self._forms:
      yield gates.Gate(
        "kernels",
        "its kernels compute what its form without them does",
        self._check_kernels,
      )
    if forms.check_target(self._options):
      yield gates.Gate(
        "target",
        "it compiles for the TPU topologies of the config",
        self._check_target,
      )

  def _dear_gates(self) -> Iterator[gates.Gate]:
    if self._options.purpose == VERIFY:
      yield gates.Gate(
        "long",
        "result and gradients are finite at the longest length too",
        self._check_long,
      )
      yield gates.Gate(
        "sharding",
        "results and gradients on eight devices are those on one",
        self._check_sharding,
      )

  def gates(self) -> tuple[gates.Gate, ...]:
    """Returns the gates of this stage, cheapest first."""
    return (
      gates.Gate(
        "artifact",
        "what was exported is whole, at the right shapes, and calls nothing",
        self._check_artifact,
      ),
      gates.Gate(
        "parameters",
        "some MLP width brings the model to the reference's parameters",
        self._check_parameters,
      ),
      gates.Gate(
        "cost",
        "FLOPs and bytes, forwards and backwards, grow linearly with time",
        self._check_cost,
      ),
      gates.Gate(
        "finite",
        "result and gradients are finite, for large and for zero inputs too",
        self._check_finite,
      ),
      gates.Gate(
        "purity",
        "two calls agree bit for bit",
        self._check_purity,
      ),
      gates.Gate(
        "batch",
        "sequences of a batch do not depend on each other",
        self._check_batch,
      ),
      gates.Gate(
        "positions",
        "no parameter is a table over positions",
        self._check_positions,
      ),
      gates.Gate(
        "causality",
        "no position depends on a later one, in value or in gradient",
        self._check_causality,
      ),
      gates.Gate(
        "recurrence",
        "init_state and step, where there are, give what the whole gives",
        self._check_recurrence,
      ),
      gates.Gate(
        "derivative",
        "the gradients are those that finite differences give",
        self._check_derivative,
      ),
      *self._kernel_gates(),
      *self._dear_gates(),
    )

  def _check_artifact(self) -> None:
    self._data = bundle.unpack(self._bundle)
    if set(self._data) != set(self._forms):
      raise gates.Rejected(f"the bundle holds the forms {sorted(self._data)}.")
    self._mixer = self._load(CPU)
    platform = self._options.platform
    form = self._data[platform]
    self._trains = self._mixer if platform == CPU else self._load(platform)
    self.payload = artifact.keep(
      self._trains, form, self._options.kept_lengths()
    )
    header = artifact.read_header(self.payload)
    self.report |= {
      "artifact_hash": header.artifact_hash,
      "artifact_bytes": len(self.payload),
      "mixer_parameters": header.parameter_count,
    }

  def _load(self, name: str) -> artifact.LoadedMixer:
    """Returns a form of the bundle, if it is the form that it should be."""
    mixer = artifact.load(self._data[name])
    header, form, model = mixer.header, self._forms[name], self._options.model
    found = (header.platform, header.batch, header.times, header.dim)
    wanted = (form.platform, form.batch, form.times, model.dim)
    if found != wanted or header.dtype != model.compute_dtype:
      raise gates.Rejected(
        f"the form {name} is for {found} of {header.dtype}, it should be for "
        f"{wanted} of {model.compute_dtype}."
      )
    if any(p.dtype != "float32" for p in header.parameters):
      raise gates.Rejected("parameters must be float32.")
    if name != CPU and header.parameters != self._mixer.header.parameters:
      raise gates.Rejected(f"the form {name} has other parameters.")
    return mixer

  def _check_parameters(self) -> None:
    options, mine = self._options, self.report["mixer_parameters"]
    try:
      self._model = contract.model_config(options, mine)
    except ValueError as error:
      raise gates.Rejected(str(error)) from error
    self.report |= {
      "parameters": parameter_count(self._model, mine),
      "reference_parameters": contract.reference_parameters(options),
      "mlp_width": self._model.mlp_width,
    }

  def _check_cost(self) -> None:
    options, run = self._options, self._options.run
    # A cache of keys and values instead of a state.
    yardstick = options.program in options.yardsticks
    self._check_constructor()
    try:
      costs = {time: self._costs(time) for time in options.lengths()}
    except cost.UnknownCost as error:
      raise gates.Rejected(str(error)) from error
    if not yardstick:
      growing = options.growing_lengths()
      both = {time: f + b for time, (f, b) in costs.items()}
      gates.check_growth([both[time] for time in growing], growing)
      for time in set(both) - set(growing):
        gates.check_same_cost(
          both[time], time, [both[t] for t in growing], growing
        )
      half = options.half_length()
      if half:
        gates.check_half(both[half], both[run.time], run.time)
    state = None  # without a recurrent form nobody can tell
    if self._mixer.header.recurrent:
      avals = self._mixer.functions["init_state"].exported.out_avals
      state = sum(a.size for a in avals) // run.batch
      step = cost.cost(self._mixer.functions["step"].module)
      self.report["decode_flops_per_token"] = flops_per_token(
        self._model, step.flops, run.batch
      )
    if yardstick:
      state = 2 * self._model.dim * run.time
    self.report |= {
      "flops_per_token": flops_per_token(
        self._model, costs[run.time][0].flops, run.batch * run.time
      ),
      "state_size": state,
    }

  def _check_constructor(self) -> None:
    try:
      found = max(
        cost.cost(mixer.functions["init"].module).flops
        for mixer in (self._mixer, self._trains)
      )
    except cost.UnknownCost as error:
      raise gates.Rejected(f"in the constructor {error}") from error
    each = _INIT_FLOPS + _INIT_FLOPS_A_ROW * self._model.dim
    allowed = each * max(self.report["mixer_parameters"], _FEW_PARAMETERS)
    if found > allowed:
      raise gates.Rejected(
        f"the constructor takes {found:.3g} FLOPs, at most {allowed:.3g} may "
        f"be ({each} a parameter). Draw initial values and compute nothing "
        "else: what is learned is learned in training."
      )

  def _costs(self, time: int) -> tuple[cost.Cost, cost.Cost]:
    """Returns the costs of the result and of the gradients."""
    function = self._mixer.functions[f"apply.{time}"]
    assert function.derivative is not None  # artifact.load sees to it
    return cost.cost(function.module), cost.cost(function.derivative)

  def _check_finite(self) -> None:
    self._probe = Probe(self._mixer, self._seed)
    gates.check_finite(self._probe.results, self._probe.inputs())

  def _check_purity(self) -> None:
    gates.check_purity(self._probe.at(self._depth).forward, self._probe.x)

  def _check_batch(self) -> None:
    probe = self._probe
    if self._options.run.batch > 1:
      self._at_each_depth(
        lambda layer: gates.check_batch_independence(
          layer.forward, probe.x, probe.other
        )
      )

  def _check_positions(self) -> None:
    probe = self._probe
    self._at_each_depth(
      lambda layer: derivative_gates.check_positions(
        layer.parameter_gradients, probe.x, probe.normal()
      )
    )

  def _check_causality(self) -> None:
    probe, run = self._probe, self._options.run
    most = _CAUSALITY_RUNS // len(self.depths) * run.batch

    def check(layer: Layer) -> None:
      cuts = gates.draw_cuts(run.time, most, self._rng)
      gates.check_causality(layer.run, probe.x, probe.other, cuts)

    self._at_each_depth(check)

  def _check_recurrence(self) -> None:
    probe = self._probe

    def check(layer: Layer) -> None:
      derivative_gates.check_equal(
        "the recurrent form",
        {"the result": probe.recurrent(layer.depth)},
        {"the result": layer.forward(probe.x)},
        "init_state and step must compute what __call__ does; without them "
        "the mixer is judged by __call__ alone.",
      )

    if self._mixer.header.recurrent:
      self._at_each_depth(check)

  def _check_derivative(self) -> None:
    probe = self._probe

    def check(layer: Layer) -> None:
      derivative_gates.check_derivative(
        layer.value,
        layer.gradients,
        probe.point,
        [probe.normal() for _ in range(_COTANGENTS)],
        probe.rng,
        together=layer.depth != self._depth,
      )

    self._at_each_depth(check)

  def _at_each_depth(self, check: Callable[[Layer], None]) -> None:
    """Calls `check`, whose refusal then names the depth."""
    for depth in self.depths:
      try:
        check(self._probe.at(depth))
      except gates.Rejected as rejection:
        raise gates.Rejected(f"at depth {depth:g}: {rejection}") from rejection

  def _check_kernels(self) -> None:
    if self._trains is not self._mixer:
      kernel_gates.check_platform(
        self._mixer, self._trains, self._depth, self._seed
      )
    kernel_gates.check_forms(
      self._load(forms.PLAIN),
      self._load(forms.KERNELS),
      self._depth,
      self._seed,
    )

  def _check_target(self) -> None:
    if self._options.platform != forms.TPU:  # else it is checked already
      form = self._load(forms.TPU)
      if self._options.modelled_cycles_weight:
        # Equal on the CPU alone, two Programs do not have one score.
        self.report["artifact_hash"] = fingerprint.combine(
          self.report["artifact_hash"], form.header.artifact_hash
        )
    self.report |= kernel_gates.check_compiles(
      self._data[forms.TPU],
      self._options.preflight,
      _COMPILING * self._deadline_s,
      counted=self._options.modelled_cycles_weight > 0,
    )

  def _check_long(self) -> None:
    time = max(self._options.lengths())
    x = self._probe.input(time)
    gates.check_finite(self._probe.results, {f"{time} tokens": x})

  def _check_sharding(self) -> None:
    devices, found = self._probe.sharded(self._depth)
    self.report["sharded_over"] = devices
    if devices > 1:
      derivative_gates.check_equal(
        f"a run on {devices} devices",
        found,
        self._probe.moved_results(self._depth),
        "Compute nothing that depends on how a batch is split.",
      )
