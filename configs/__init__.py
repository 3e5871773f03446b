"""Experiments: plain ml_collections files, one each, variants by name."""
