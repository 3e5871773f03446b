"""Mesh and shardings: data parallel and inferred FSDP, on any device count.

The axes are Auto even on one device, so that the code a laptop runs is the
code a pod runs.
"""

from __future__ import annotations

import math
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("data", "fsdp", "model")
# Below this an all-gather costs more than the memory it saves.
MIN_SHARDED_ELEMENTS = 1 << 18


def make_mesh(data: int = -1, fsdp: int = 1, model: int = 1) -> Mesh:
  """Returns a mesh with Auto axes "data", "fsdp" and "model".

  Args:
    data: devices along it; -1: all that the other axes leave.
    fsdp: devices that hold shards of the parameters.
    model: devices for tensor parallelism.

  Raises:
    ValueError: if the sizes do not multiply to the number of devices.
  """
  count = jax.device_count()
  if data == -1:
    data = count // (fsdp * model)
  sizes = (data, fsdp, model)
  if min(sizes) < 1 or math.prod(sizes) != count:
    raise ValueError(
      f"a mesh of {dict(zip(AXES, sizes, strict=True))} does not fit "
      f"{count} devices: change the sizes, or use data=-1."
    )
  return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * 3)


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of [batch, ...]: over data and fsdp."""
  return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def infer(
  tree: Any, mesh: Mesh, min_elements: int = MIN_SHARDED_ELEMENTS
) -> Any:
  """Returns the sharding of every array: FSDP on its largest divisible axis.

  Args:
    tree: arrays or ShapeDtypeStructs; an optimiser's state as well.
    mesh: from `make_mesh`.
    min_elements: smaller arrays are replicated.
  """
  devices = mesh.shape["fsdp"]

  def one(leaf: Any) -> NamedSharding:
    spec: list[str | None] = [None] * len(leaf.shape)
    fitting = [i for i, n in enumerate(leaf.shape) if n % devices == 0]
    if devices > 1 and math.prod(leaf.shape) >= min_elements and fitting:
      # Of equal axes the last: the first may be the layers of a scan.
      spec[max(fitting, key=lambda i: (leaf.shape[i], i))] = "fsdp"
    return NamedSharding(mesh, PartitionSpec(*spec))

  return jax.tree.map(one, tree)
