"""Architectures: which token mixer makes the best small language model."""
