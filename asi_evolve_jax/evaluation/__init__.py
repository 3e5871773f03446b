"""Stages, workers, gates, ladder, statistics; knows no track."""
