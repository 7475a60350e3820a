"""Checkpoints of a training run: their files, steps, learning rates, optimizer states and architecture."""

from coreset_workers.checkpoints.architecture import registered, tag_preprocess
from coreset_workers.checkpoints.files import inspect, load, sha256
from coreset_workers.checkpoints.optimizer import adam_preconditioner
from coreset_workers.checkpoints.run import PlannedRun, plan_checkpoints

__all__ = [
    "PlannedRun",
    "adam_preconditioner",
    "inspect",
    "load",
    "plan_checkpoints",
    "registered",
    "sha256",
    "tag_preprocess",
]
