"""The untrusted stage: a Program goes in, exported computations come out.

The only place where a candidate's Python runs. The gates here tell an author
early what is wrong; nothing that this process says is believed. Its payload, a
bundle of exported computations, is judged in another one (judge.py).
"""

from __future__ import annotations

import inspect
import time
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from asi_evolve_jax.evaluation import gates, source_policy
from asi_evolve_jax.evaluation.stages import StageReply, StageRequest
from asi_evolve_jax.programs import artifact, bundle
from asi_evolve_jax.programs.traceable import (
  Traceable,
  parameters_of,
  platforms_chosen,
)
from asi_evolve_jax.tracks.architecture import contract, forms
from asi_evolve_jax.tracks.architecture.options import StageOptions, read_stage
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
  """Traces the Program of `request`; see the module.

  Returns:
    "ok" with a bundle of `forms.forms` as payload, or "rejected" with the gate
    and what to change.
  """
  start = time.monotonic()
  candidate = Candidate(request.source, read_stage(request.options))
  verdict = gates.judge(
    candidate.gates(),
    lambda error: source_policy.explain(error, contract.FILENAME),
  )
  report = {"gate_seconds": verdict.seconds}
  cost = {"trace_s": time.monotonic() - start}
  if not verdict.passed:
    return StageReply(
      status="rejected",
      gate=verdict.gate,
      error=verdict.message,
      report=report,
      cost=cost,
    )
  return StageReply(payload=candidate.payload, report=report, cost=cost)


class Candidate:
  """One Program on its way to a bundle; each gate leaves what the next needs.

  Attributes:
    payload: the bundle, after the gate "export".
  """

  def __init__(self, source: str, options: StageOptions):
    self.payload = b""
    self._source = source
    self._options = options
    self._dtype = jnp.dtype(options.model.compute_dtype)
    self._config = contract.mixer_config(options.model)

  def gates(self) -> tuple[gates.Gate, ...]:
    """Returns the gates of this stage, cheapest first."""
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
        "export",
        "the computation exports with its derivative at every length",
        self._export,
      ),
    )

  def _check_source(self) -> None:
    try:
      source_policy.check(self._source, ALLOWED_IMPORTS)
    except source_policy.PolicyError as error:
      raise gates.Rejected(str(error)) from error

  def _check_contract(self) -> None:
    module = contract.execute(self._source)
    mixer = getattr(module, contract.CLASS, None)
    if not (isinstance(mixer, type) and issubclass(mixer, nnx.Module)):
      raise gates.Rejected(
        f"define `class {contract.CLASS}(nnx.Module)` at the top level of the "
        "module."
      )
    recurrent = [n for n in ("init_state", "step") if hasattr(mixer, n)]
    if len(recurrent) == 1:
      raise gates.Rejected(
        f"{contract.CLASS} defines {recurrent[0]} alone: a recurrent form is "
        "init_state(self, batch) and step(self, x, state, ctx)."
      )
    wanted: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
      "__init__": (
        "(self, config, *, rngs)",
        (None, self._config),
        {"rngs": None},
      ),
      "__call__": ("(self, x, ctx)", (None, None, None), {}),
      "init_state": ("(self, batch)", (None, 1), {}),
      "step": ("(self, x, state, ctx)", (None, None, None, None), {}),
    }
    for method in ("__init__", "__call__", *recurrent):
      signature, args, kwargs = wanted[method]
      try:
        inspect.signature(getattr(mixer, method)).bind(*args, **kwargs)
      except TypeError as error:
        raise gates.Rejected(
          f"{contract.CLASS}.{method} must take {signature}: {error}."
        ) from error
    self._mixer = Traceable(mixer, self._config)

  def _check_variables(self) -> None:
    others = self._mixer.others
    if others:
      raise gates.Rejected(
        f"the constructor keeps {', '.join(others)} outside of nnx.Param. Make "
        "it an nnx.Param, or compute it in __call__, or keep plain numbers."
      )
    wrong = [
      f"{'.'.join(p.path)} ({p.dtype})"
      for p in parameters_of(self._mixer.params)
      if p.dtype != "float32"
    ]
    if wrong:
      raise gates.Rejected(
        f"parameters must be float32, these are not: {', '.join(wrong)}. Cast "
        "in __call__ where another dtype is wanted."
      )

  def _check_shapes(self) -> None:
    run = self._options.run
    x = jax.ShapeDtypeStruct(
      (run.batch, run.time, self._config.dim), self._dtype
    )
    closed, out = jax.make_jaxpr(self._mixer.apply, return_shape=True)(
      self._mixer.params, x, jax.ShapeDtypeStruct((), jnp.float32)
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

  def _export(self) -> None:
    wanted = forms.forms(self._options)
    self.payload = bundle.pack(
      {name: self._trace(form) for name, form in wanted.items()}
    )

  def _trace(self, form: forms.Form) -> bytes:
    first, *more = form.times
    try:
      # The operators choose their kernel for it.
      with compiling_for(
        form.kernels_of or form.platform, interpret=bool(form.kernels_of)
      ):
        self._check_platforms(form)
        return artifact.trace(
          self._mixer,
          batch=form.batch,
          time=first,
          more_times=more,
          dtype=self._dtype,
          platform=form.platform,
          recurrent=form.recurrent,
        )
    except artifact.ArtifactError as error:
      raise gates.Rejected(str(error)) from error

  def _check_platforms(self, form: forms.Form) -> None:
    """Refuses branches for one platform: the judge runs another."""
    mixer, params = self._mixer, self._mixer.params
    x = jax.ShapeDtypeStruct(
      (form.batch, form.times[0], self._config.dim), self._dtype
    )
    depth = jax.ShapeDtypeStruct((), jnp.float32)

    def both(params: Any, x: jax.Array, depth: jax.Array) -> Any:
      y, pull = jax.vjp(mixer.apply, params, x, depth)
      return pull(y)

    traced = [
      jax.make_jaxpr(both)(params, x, depth),
      jax.make_jaxpr(lambda: mixer.init(jax.random.key(0)))(),
    ]
    if form.recurrent and mixer.recurrent:
      state = jax.eval_shape(lambda p: mixer.init_state(p, form.batch), params)
      token = jax.ShapeDtypeStruct((form.batch, self._config.dim), self._dtype)
      traced.append(
        jax.make_jaxpr(lambda *args: mixer.step(*args))(
          params, token, depth, state
        )
      )
    named = set[str]().union(*(platforms_chosen(j.jaxpr) for j in traced))
    if named:
      raise gates.Rejected(
        f"it has branches of its own for {', '.join(sorted(named))} "
        "(lax.platform_dependent). Compute the same everywhere; kernels for "
        "one platform come from pallas_kernels, or are chosen by its target()."
      )
