"""Compiling for TPUs without one, and what the compiler then knows.

Needs libtpu (`pip install 'asi_evolve_jax[tpu-aot]'`) and a process of its own:
`python -m pallas_kernels.ahead_of_time` reads jobs and prints what it found.
"""
