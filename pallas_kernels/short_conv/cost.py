"""FLOPs and bytes of the short convolution."""

from __future__ import annotations

from pallas_kernels.shared.cost import Cost


def forward_cost(
  batch: int, time: int, dim: int, width: int, *, itemsize: int = 4
) -> Cost:
  """Returns the cost of one forward pass: a multiply-add a tap counts 2.

  Args:
    batch, time, dim, width: sizes of the arguments.
    itemsize: bytes an entry of x, the weight and y has.

  Returns:
    FLOPs, and bytes with every argument and result moved once, states in
    float32.
  """
  moved = itemsize * (2 * batch * time * dim + width * dim)
  moved += 2 * 4 * batch * (width - 1) * dim
  return Cost(2 * batch * time * dim * width, moved)
