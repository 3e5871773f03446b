"""The untrusted stage: a Program goes in, a checked Artifact comes out.

The only place where a candidate's Python runs. Gates go from the cheap to the
dear: reading, abstract evaluation, export, and one compiled function.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from asi_evolve_jax.evaluation import cost, gates, source_policy
from asi_evolve_jax.evaluation.stages import StageReply, StageRequest
from asi_evolve_jax.models.sizes import forward_flops, parameter_count
from asi_evolve_jax.programs import artifact
from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.records.schema import VERIFY
from asi_evolve_jax.tracks.architecture import contract, kernel_gates
from asi_evolve_jax.tracks.architecture.options import StageOptions, read_stage
from asi_evolve_jax.tracks.architecture.probe import Probe
from pallas_kernels import compiling_for

ALLOWED_IMPORTS = frozenset(
  {
    "collections",
    "dataclasses",
    "enum",
    "flax",
    "functools",
    "itertools",
    "jax",
    "math",
    "operator",
    "pallas_kernels",
    "typing",
  }
)


def run(request: StageRequest) -> StageReply:
  """Traces the Program of `request` and checks it; see the module.

  Returns:
    "ok" with the Artifact as payload, or "rejected" with the gate and what to
    change. The report holds "artifact_hash", counts and costs, and
    "gate_seconds".
  """
  candidate = Candidate(request.source, read_stage(request.options))
  verdict = gates.judge(
    candidate.gates(),
    lambda error: source_policy.explain(error, contract.FILENAME),
  )
  report = {**candidate.report, "gate_seconds": verdict.seconds}
  if not verdict.passed:
    return StageReply(
      status="rejected",
      gate=verdict.gate,
      error=verdict.message,
      report=report,
    )
  return StageReply(payload=candidate.payload, report=report)


class Candidate:
  """One Program on its way through the gates.

  Each gate leaves what the next one needs.

  Attributes:
    payload: the Artifact, after the gate "export".
    report: what is known so far.
  """

  def __init__(self, source: str, options: StageOptions):
    self.source = source
    self.options = options
    self.payload = b""
    self.report: dict[str, Any] = {"platform": options.platform}
    self._dtype = jnp.dtype(options.model.compute_dtype)
    self._config = contract.mixer_config(options.model)

  def _for_kernels(self) -> Iterator[gates.Gate]:
    options = self.options
    if options.check_kernels or options.platform != "cpu":
      yield gates.Gate(
        "kernels",
        "its kernels compute what its form without them does",
        self._check_kernels,
      )
    if options.preflight and options.purpose == VERIFY:
      yield gates.Gate(
        "target",
        "it compiles for the TPU topologies of the config",
        self._check_target,
      )

  def gates(self) -> tuple[gates.Gate, ...]:
    """Returns all gates, cheapest first."""
    return (
      gates.Gate(
        "source",
        "the source parses and imports only what a mixer needs",
        self._check_source,
      ),
      gates.Gate(
        "contract",
        "TokenMixer exists, takes (config, *, rngs) and (x, ctx), and builds",
        self._check_contract,
      ),
      gates.Gate(
        "variables",
        "every array is an nnx.Param of float32",
        self._check_variables,
      ),
      gates.Gate(
        "shapes",
        "the result has the shape and dtype of x, and nothing else happens",
        self._check_shapes,
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
        "export",
        "the computation exports with its derivative and calls nothing outside",
        self._export,
      ),
      gates.Gate(
        "finite",
        "result and gradients are finite, for large and for zero inputs too",
        self._check_finite,
      ),
      gates.Gate(
        "batch",
        "sequences of a batch do not depend on each other",
        self._check_batch,
      ),
      gates.Gate(
        "causality",
        "no position depends on a later one, in value or in gradient",
        self._check_causality,
      ),
      *self._for_kernels(),
    )

  def _check_source(self) -> None:
    try:
      source_policy.check(self.source, ALLOWED_IMPORTS)
    except source_policy.PolicyError as error:
      raise gates.Rejected(str(error)) from error

  def _check_contract(self) -> None:
    module = contract.execute(self.source)
    mixer = getattr(module, contract.CLASS, None)
    if not (isinstance(mixer, type) and issubclass(mixer, nnx.Module)):
      raise gates.Rejected(
        f"define `class {contract.CLASS}(nnx.Module)` at the top level of the "
        "module."
      )
    for method, args, kwargs in (
      ("__init__", (None, self._config), {"rngs": None}),
      ("__call__", (None, None, None), {}),
    ):
      try:
        inspect.signature(getattr(mixer, method)).bind(*args, **kwargs)
      except TypeError as error:
        wanted = "(self, config, *, rngs)" if kwargs else "(self, x, ctx)"
        raise gates.Rejected(
          f"{contract.CLASS}.{method} must take {wanted}: {error}."
        ) from error
    self._mixer = artifact.Traceable(mixer, self._config)

  def _check_variables(self) -> None:
    others = self._mixer.others
    if others:
      raise gates.Rejected(
        f"the constructor keeps {', '.join(others)} outside of nnx.Param. Make "
        "it an nnx.Param, or compute it in __call__, or keep plain numbers."
      )
    wrong = [
      f"{'.'.join(p.path)} ({p.dtype})"
      for p in artifact.parameters_of(self._mixer.params)
      if p.dtype != "float32"
    ]
    if wrong:
      raise gates.Rejected(
        f"parameters must be float32, these are not: {', '.join(wrong)}. Cast "
        "in __call__ where another dtype is wanted."
      )
    self.report["mixer_parameters"] = artifact.parameter_total(
      self._mixer.params
    )

  def _check_shapes(self) -> None:
    x = self._shape(self.options.run.time)
    closed, out = jax.make_jaxpr(self._mixer.apply, return_shape=True)(
      self._mixer.params, x, _DEPTH
    )
    shape, dtype = getattr(out, "shape", None), getattr(out, "dtype", None)
    if shape is None:
      raise gates.Rejected(
        f"__call__ must return one array {list(x.shape)}, it returns "
        f"{type(out).__name__}."
      )
    if shape != x.shape:
      raise gates.Rejected(
        f"__call__ returns {list(shape)} for x of {list(x.shape)}; it must "
        "return the shape of x."
      )
    if dtype != x.dtype:
      raise gates.Rejected(
        f"__call__ returns {dtype} for x of {x.dtype}; end with "
        ".astype(x.dtype)."
      )
    if self._mixer.leftovers:
      raise gates.Rejected(
        f"__call__ leaves {', '.join(self._mixer.leftovers)} in the module; a "
        "mixer has no state and does not sow."
      )
    if closed.effects:
      raise gates.Rejected(
        f"__call__ has effects ({', '.join(map(str, closed.effects))}): remove "
        "prints, callbacks and other input or output."
      )
    self._forward_cost = cost.jaxpr_cost(closed)

  def _check_parameters(self) -> None:
    mine = self.report["mixer_parameters"]
    try:
      model = contract.model_config(self.options, mine)
    except ValueError as error:
      raise gates.Rejected(str(error)) from error
    run, forward = self.options.run, self._forward_cost
    self.report |= {
      "parameters": parameter_count(model, mine),
      "reference_parameters": contract.reference_parameters(self.options),
      "mlp_width": model.mlp_width,
      "flops_per_token": forward_flops(model, 1)
      + model.layers * forward.flops / (run.batch * run.time),
      "state_size": forward.carry // run.batch,
    }

  def _check_cost(self) -> None:
    if program_id(self.source) in self.options.yardsticks:
      # A cache of keys and values instead of a state.
      self.report["state_size"] = 2 * self._config.dim * self.options.run.time
      return
    # Long enough for a quadratic part to show beside the projections.
    chunk = self._config.chunk_size
    start = max(self.options.run.time, 2 * self._config.dim)
    start = -(-start // chunk) * chunk
    times = (start, 2 * start, 4 * start)
    gates.check_growth([self._cost(t) for t in times], times)

  def _cost(self, time: int) -> cost.Cost:
    def both(params: Any, x: jax.Array, depth: jax.Array, dy: jax.Array) -> Any:
      y, pull = jax.vjp(self._mixer.apply, params, x, depth)
      return y, pull(dy)

    x = self._shape(time, batch=1)
    return cost.cost(both, self._mixer.params, x, _DEPTH, x)

  def _export(self) -> None:
    self.payload = self._trace(self.options.platform)
    header = artifact.read_header(self.payload)
    self.report["artifact_hash"] = header.artifact_hash

  def _trace(self, platform: str, batch: int = 0, time: int = 0) -> bytes:
    run = self.options.run
    try:
      # The operators choose their kernel for it.
      with compiling_for(platform):
        return artifact.trace(
          self._mixer,
          batch=batch or run.batch,
          time=time or run.time,
          dtype=self._dtype,
          platform=platform,
        )
    except artifact.ArtifactError as error:
      raise gates.Rejected(str(error)) from error

  def _check_finite(self) -> None:
    # What runs here is the Artifact itself, so what passed is what trains; one
    # for another platform is checked through its twin for this one.
    here = _here()
    if here == self.options.platform:
      payload = self.payload
    else:
      payload = self._trace(here)
    self._probe = Probe(artifact.load(payload))
    gates.check_finite(self._probe.results, self._probe.inputs())

  def _check_batch(self) -> None:
    probe = self._probe
    if self.options.run.batch > 1:
      gates.check_batch_independence(probe.forward, probe.x, probe.other)

  def _check_causality(self) -> None:
    probe = self._probe
    cuts = gates.cut_points(self.options.run.time, self._config.chunk_size)
    gates.check_causality(
      probe.forward, probe.pullback, probe.x, probe.other, cuts
    )

  def _check_kernels(self) -> None:
    platform = self.options.platform
    time = kernel_gates.probe_time(
      self._config.chunk_size, self.options.run.time
    )
    here = _here()
    plain = self._trace(here, kernel_gates.BATCH, time)
    try:
      kernel = kernel_gates.trace_kernels(
        self._mixer,
        "tpu" if platform == "cpu" else platform,
        time=time,
        dtype=self._dtype,
        platform=here,
      )
    except artifact.ArtifactError as error:
      raise gates.Rejected(str(error)) from error
    kernel_gates.check_forms(artifact.load(plain), artifact.load(kernel))

  def _check_target(self) -> None:
    tpu = self.options.platform == "tpu"
    payload = self.payload if tpu else self._trace("tpu")
    self.report |= kernel_gates.check_compiles(payload, self.options.preflight)

  def _shape(self, time: int, batch: int = 0) -> jax.ShapeDtypeStruct:
    shape = (batch or self.options.run.batch, time, self._config.dim)
    return jax.ShapeDtypeStruct(shape, self._dtype)


def _here() -> str:
  backend = jax.default_backend()
  return {"gpu": "cuda"}.get(backend, backend)


_DEPTH = jax.ShapeDtypeStruct((), jnp.float32)
