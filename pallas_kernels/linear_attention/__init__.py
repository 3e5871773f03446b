"""Linear attention with no, scalar or vector decay."""

from pallas_kernels.linear_attention.api import linear_attention, step

__all__ = ["linear_attention", "step"]
