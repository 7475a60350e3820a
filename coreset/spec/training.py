"""The spec of a training run that a job makes itself. docs/training-run.md has examples."""

from pydantic import Field

from coreset.spec.base import FrozenModel
from coreset.spec.model import ModelSpec

TRAINING_CHECKPOINTS = 5
HELD_OUT = 0.1
LEARNING_RATE = 1e-3


class TrainSpec(FrozenModel):
    """A training run that the job makes before it scores: a small CLIP from scratch on the pool, or on a sample of it.

    Training stops when the held-out loss no longer falls. That loss is measured on the validation samples if `target`
    is a validation pool, else on a held-out share of the pool. Equal runs are trained once (docs/training-run.md).

    Attributes:
        samples: number of samples drawn from the pool. Default: 20,000 on a CPU, 200,000 on a GPU; all of a smaller
            pool.
        samples_seen: largest number of samples that training sees, with repetitions. Default: five times `samples`.
        held_out: share of the samples that is held out if `target` is `training`, 1,024 samples at most.
        checkpoints: number of checkpoints that are kept, at equal falls of the held-out loss.
        batch_size: default: 128, or an eighth of the samples if that is less.
        lr: AdamW's highest learning rate, after a warm-up and before a cosine decay.
        seed: of the sample, the weights, the order and the augmentation.
        model: the architecture, with its resolution. Default: a small ViT of 64 pixels on a CPU, a larger one of 112
            pixels on a GPU (workers/coreset_workers/training/defaults.py).
    """

    samples: int | None = Field(default=None, ge=32, le=10_000_000)
    samples_seen: int | None = Field(default=None, ge=64, le=10**10)
    held_out: float = Field(default=HELD_OUT, ge=0.01, le=0.5)
    checkpoints: int = Field(default=TRAINING_CHECKPOINTS, ge=1, le=50)
    batch_size: int | None = Field(default=None, ge=8, le=65_536)
    lr: float = Field(default=LEARNING_RATE, gt=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    model: ModelSpec | None = None
