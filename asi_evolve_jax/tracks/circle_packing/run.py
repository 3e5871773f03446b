"""Runs a circle-packing Program: the untrusted stage of this track."""

from __future__ import annotations

import ast
import linecache
import sys
import time
import types
from typing import Any

from asi_evolve_jax.evaluation import source_policy
from asi_evolve_jax.evaluation.stages import StageReply, StageRequest
from asi_evolve_jax.tracks.circle_packing import packing

CPU_GATE = "cpu_seconds"
FILE = "<program>"
ALLOWED_IMPORTS = (
  *("dataclasses", "functools", "itertools", "math", "typing"),
  *("numpy", "scipy"),
)
_ARGUMENTS = ["n", "seed", "work"]


def run(request: StageRequest) -> StageReply:
  """Calls `pack(circles, seed, work)` once a seed.

  Options: "circles", "work" (passed on) and "cpu_seconds", what one seed may
  take of this process's CPU time, the execution of the module counted to the
  first. The payload is `packing.encode`'s. A Program shares this process and
  could lie about its time: score.py looks at what was measured from outside.
  """
  try:
    tree = source_policy.check(request.source, ALLOWED_IMPORTS)
  except source_policy.PolicyError as e:
    return StageReply(status="rejected", gate="source", error=str(e))
  broken = _contract(tree)
  if broken:
    return StageReply(status="rejected", gate="contract", error=broken)
  circles = int(request.options["circles"])
  work = int(request.options["work"])
  allowed = float(request.options["cpu_seconds"])
  packings = []
  cost = 0.0
  try:
    begin = time.process_time()
    pack = _load(request.source)
    for seed in request.seeds:
      result = pack(circles, seed, work)
      used, begin = time.process_time() - begin, time.process_time()
      cost += used
      if used > allowed:
        return StageReply(
          status="rejected",
          gate=CPU_GATE,
          error=(
            f"Seed {seed} took {used:.3g} CPU seconds of {allowed:.3g}: do "
            f"less for one unit of `work` (here {work})."
          ),
        )
      packings.append(_convert(result))
  except MemoryError:
    raise  # the worker knows its limit and says so
  except packing.PackingError as e:
    return StageReply(status="failed", error=f"`pack` returned garbage: {e}")
  except (Exception, SystemExit) as e:
    return StageReply(status="failed", error=source_policy.explain(e, FILE))
  return StageReply(
    payload=packing.encode(packings), cost={"pack_cpu_seconds": cost}
  )


def _contract(tree: ast.Module) -> str:
  """Returns how the Program breaks its contract, "" if it does not."""
  functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
  if "pack" not in functions:
    return "The Program defines no function `pack(n, seed, work)`."
  names = [a.arg for a in functions["pack"].args.args]
  if names != _ARGUMENTS:
    return f"`pack` must take (n, seed, work), got ({', '.join(names)})."
  return ""


def _load(source: str) -> Any:
  """Executes the source as a module and returns its `pack`."""
  module = types.ModuleType("program")
  module.__file__ = FILE
  # dataclasses look their module up; tracebacks look the lines up.
  sys.modules[module.__name__] = module
  lines = source.splitlines(keepends=True)
  linecache.cache[FILE] = (len(source), None, lines, FILE)
  exec(compile(source, FILE, "exec"), module.__dict__)
  return module.__dict__["pack"]


def _convert(result: Any) -> tuple[packing.Array, packing.Array]:
  if not isinstance(result, (tuple, list)) or len(result) != 2:
    raise packing.PackingError(
      f"a {type(result).__name__} instead of (centers, radii)."
    )
  return (
    packing.as_array(result[0], "centers"),
    packing.as_array(result[1], "radii"),
  )
