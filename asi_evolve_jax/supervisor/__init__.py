"""Starts and watches roles, ends a search, shows and reports it."""
