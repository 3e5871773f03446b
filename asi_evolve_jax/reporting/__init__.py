"""Leaderboard, verdict, figures, lineage."""
