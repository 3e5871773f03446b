"""Data, the train loop, checkpoints, sharding."""
