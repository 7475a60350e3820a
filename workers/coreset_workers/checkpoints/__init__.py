"""Checkpoints of a training run: their files, steps, learning rates, optimizer states and architecture."""

from coreset_workers.checkpoints.architecture import registered
from coreset_workers.checkpoints.files import LoadedCheckpoint, inspect, load, sha256
from coreset_workers.checkpoints.optimizer import adam_preconditioner
from coreset_workers.checkpoints.run import PlannedRun, find, plan_checkpoints

__all__ = [
    "LoadedCheckpoint",
    "PlannedRun",
    "adam_preconditioner",
    "find",
    "inspect",
    "load",
    "plan_checkpoints",
    "registered",
    "sha256",
]
