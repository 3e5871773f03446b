"""Compiles an Artifact for TPU topologies that are not here.

Forward and backward, alone and under shard_map over the batch, as training
runs it. In a process of its own, because of libtpu:
`python -m asi_evolve_jax.programs.preflight TOPOLOGY... < artifact`
prints a line of JSON a topology; the exit code is 3 without libtpu.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from pallas_kernels.ahead_of_time.__main__ import NOT_CHECKED
from pallas_kernels.ahead_of_time.compiler import Compiler, NotCheckedError


def preflight(
  payload: bytes, topologies: Sequence[str], timeout_s: float = 600.0
) -> list[dict[str, Any]]:
  """Compiles the Artifact for each topology, in another process.

  Args:
    payload: of `artifact.trace` for the platform "tpu".
    topologies: such as "v5e:4x4"; all their devices share the batch.
    timeout_s: for all of them.

  Returns:
    For each topology what `Compiled` holds, or "refused" and why, or "not
    checked" and why: libtpu does not describe it.

  Raises:
    NotCheckedError: if libtpu is not installed, or the process does not end in
      time or fails: that is no word on the Artifact.
  """
  # Nothing is imported from the scratch folder that a stage may stand in.
  command = [sys.executable, "-P", "-m", __name__, *topologies]
  path = map(os.path.abspath, sys.path)
  try:
    done = subprocess.run(
      command,
      input=payload,
      capture_output=True,
      timeout=timeout_s,
      check=False,
      # Of a worker, which may have its modules from anywhere.
      env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
    )
  except subprocess.TimeoutExpired as error:
    raise NotCheckedError(
      f"not checked: compiling for {', '.join(topologies)} took more than "
      f"{timeout_s:.0f} seconds."
    ) from error
  if done.returncode == NOT_CHECKED:
    raise NotCheckedError(done.stderr.decode().strip())
  if done.returncode:
    last = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
    raise NotCheckedError(
      f"not checked: preflight ended with {done.returncode}: {last}"
    )
  return [json.loads(line) for line in done.stdout.splitlines()]


def _compile(
  compiler: Compiler, payload: bytes, found: Sequence[Any]
) -> dict[str, Any]:
  import jax
  import jax.numpy as jnp
  import numpy as np
  from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

  from asi_evolve_jax.programs import artifact

  mixer = artifact.load(payload)
  header = mixer.header
  devices = np.array(found)
  mesh = Mesh(devices, ("data",), axis_types=(AxisType.Auto,))
  split, whole = PartitionSpec("data"), PartitionSpec()

  def struct(shape: Any, dtype: Any, spec: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(
      shape, dtype, sharding=NamedSharding(mesh, spec)
    )

  shape = (header.batch * devices.size, header.time, header.dim)
  x = struct(shape, jnp.dtype(header.dtype), split)
  params = jax.tree.map(lambda p: struct(p.shape, p.dtype, whole), mixer.params)

  def loss(params: Any, x: jax.Array) -> jax.Array:
    def local(params: Any, x: jax.Array) -> jax.Array:
      return mixer.apply(params, x, jnp.float32(0.5))

    y = jax.shard_map(
      local,
      mesh=mesh,
      in_specs=(whole, split),
      out_specs=split,
      check_vma=False,
    )(params, x)
    return jnp.sum(y.astype(jnp.float32) ** 2)

  compiled = compiler.compile(jax.value_and_grad(loss, (0, 1)), params, x)
  return dataclasses.asdict(compiled)


def main(topologies: Sequence[str]) -> int:
  payload = sys.stdin.buffer.read()
  try:
    compiler = Compiler()
  except NotCheckedError as error:
    print(error, file=sys.stderr)
    return NOT_CHECKED
  try:
    for topology in topologies:
      result: dict[str, Any] = {"topology": topology}
      try:
        devices = compiler.devices(topology)
      except Exception as error:  # no word on the Artifact
        result["not checked"] = str(error)[:2000]
        print(json.dumps(result), flush=True)
        continue
      try:
        result |= _compile(compiler, payload, devices)
      except Exception as error:  # the compiler's own classes are not public
        result["refused"] = str(error)[:2000]
      print(json.dumps(result), flush=True)
  finally:
    compiler.close()
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
