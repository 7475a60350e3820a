"""A training run that jobs train: its plan, whose hash is its id, and its outcome."""

import hashlib

from pydantic import Field

from coreset.schemas.plan import PlannedModel, PlannedShard
from coreset.spec.base import FrozenModel
from coreset.spec.pool import CaptionField

TRAINING_VERSION = 1
"""Version of trained runs; raise it with every change that changes a weight, so that no older run is reused."""

POOL, TARGET = "a held-out share of the pool", "the validation samples"
"""Sources of the held-out samples."""


class Validation(FrozenModel):
    """A validation pool, of which samples are drawn to measure the held-out loss."""

    shards: list[PlannedShard]
    caption_field: CaptionField
    size: int
    seed: int


class TrainingPlan(FrozenModel):
    """All that decides a trained run. `id` is a hash of the fields.

    Attributes:
        validation: the validation pool; None holds out a share of the pool.
        samples: largest number of samples that are drawn from the pool.
        intervals: number of times that the held-out loss is measured in a whole training.
        interval_steps: steps from one measurement to the next.
        checkpoints: largest number of checkpoints that are kept.
    """

    version: int = TRAINING_VERSION
    shards: list[PlannedShard]
    caption_field: CaptionField
    validation: Validation | None
    model: PlannedModel
    samples: int
    held_out: float
    intervals: int
    interval_steps: int
    batch_size: int
    lr: float
    seed: int
    checkpoints: int

    @property
    def id(self) -> str:
        """The content key: 32 hex digits of the sha256 of the JSON."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:32]

    @property
    def steps(self) -> int:
        """Steps of the whole schedule."""
        return self.intervals * self.interval_steps

    @property
    def samples_seen(self) -> int:
        """Samples that the whole schedule sees, with repetitions."""
        return self.steps * self.batch_size


class HeldOutLoss(FrozenModel):
    """The held-out loss after some steps."""

    step: int
    loss: float


class TrainedRun(FrozenModel):
    """A run that was trained for a job, in the layout of open_clip's trainer.

    Attributes:
        run: its folder, which another spec may name as `checkpoints.run`.
        trained_on: number of samples trained on.
        held_out: number of samples that the held-out loss is measured on.
        held_out_source: `a held-out share of the pool` or `the validation samples`.
        losses: the held-out loss before training and at each measurement.
        steps: of the checkpoints that are kept; the last one has the lowest loss.
        samples_seen: samples that training saw until it stopped, with repetitions.
        stopped: why training stopped.
    """

    id: str
    run: str
    trained_on: int
    held_out: int
    held_out_source: str
    losses: list[HeldOutLoss]
    steps: list[int]
    samples_seen: int
    stopped: str
    device: str
    seconds: float


class TrainingFound(FrozenModel):
    """The run that a job would train.

    Attributes:
        run: its folder.
        samples: largest number of samples that are trained on and held out.
        samples_seen: largest number of samples that training sees, with repetitions.
        bytes_in_memory: of the decoded samples.
        bytes_stored: of the checkpoints, which hold AdamW's state too.
        seconds: of the whole schedule on a worker like the one that made the check; training may stop earlier.
        trained: whether the run is there already, and would be used again.
    """

    run: str
    model: PlannedModel
    samples: int
    samples_seen: int
    bytes_in_memory: int
    bytes_stored: int
    seconds: float
    trained: bool = Field(default=False)
