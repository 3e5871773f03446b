"""A research engine that runs itself: ASI-Evolve, JAX and TPU first."""
