"""Diagonal decay plus one free rank-one erase, with a read before both."""

from pallas_kernels.dplr_delta_rule.api import dplr_delta_rule, step

__all__ = ["dplr_delta_rule", "step"]
