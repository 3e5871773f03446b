"""Synthetic tasks: what a mixer can do, apart from how well it models text."""
