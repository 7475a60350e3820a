"""The operator's limit of what jobs may train (CORESET_MAX_TRAINING_SAMPLES)."""

from coreset.errors import InvalidSpec
from coreset.spec.training import TrainSpec


def require_allowed(spec: TrainSpec, most: int) -> None:
    """Raise InvalidSpec if training is not allowed, or not as much of it."""
    if most == 0:
        raise InvalidSpec(
            "this service does not train models (CORESET_MAX_TRAINING_SAMPLES is 0); give `checkpoints.run`",
            field="checkpoints.train",
        )
    if spec.samples_seen is not None and spec.samples_seen > most:
        raise InvalidSpec(
            f"checkpoints.train.samples_seen is {spec.samples_seen:,}; expected at most {most:,} "
            "(CORESET_MAX_TRAINING_SAMPLES)",
            field="checkpoints.train.samples_seen",
        )
