"""Errors for numbers of a training run that are not finite."""

import math

from coreset.errors import CheckpointUnusable


def require_finite(value: float, name: str, uri: str) -> None:
    """Raise CheckpointUnusable if a number computed from a checkpoint is not finite."""
    if not math.isfinite(value):
        raise not_finite(f"{name} ({value})", uri)


def not_finite(name: str, uri: str) -> CheckpointUnusable:
    """Return the error for a checkpoint in which the named number is not finite."""
    return CheckpointUnusable(
        f"{uri}: {name} is not finite, so the training diverged before this checkpoint; leave it out", uri=uri
    )
