"""Sequence operators for JAX; one folder an operator.

Each folder has `api.py` (what to call), `reference.py` (the recurrence token
by token: slow, and the meaning of the operator), `xla.py` (chunked, for any
backend) and `cost.py`. Arrays are [batch, time, heads, dim].
"""

from pallas_kernels.shared.target import compiling_for, target

__all__ = ["compiling_for", "target"]
