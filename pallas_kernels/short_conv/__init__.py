"""Causal depthwise convolution of a few taps."""

from pallas_kernels.short_conv.api import short_conv, step

__all__ = ["short_conv", "step"]
