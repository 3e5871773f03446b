"""Circles in the unit square, the sum of radii maximal."""
