"""Proposers: what writes the next Program. They know a Space, never a track."""
