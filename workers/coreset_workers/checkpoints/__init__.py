"""Checkpoints of a training run: finding, reading and checking them."""
