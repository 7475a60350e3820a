"""Defaults of a run that a job trains, by the device that the worker computes on."""

from dataclasses import dataclass
from typing import Any

import torch

from coreset.access.training_limit import require_allowed
from coreset.schemas.plan import PlannedModel
from coreset.spec.proxies import PROXY_MODEL
from coreset.spec.training import TrainSpec
from coreset_workers.checkpoints.architecture import registered

PASSES = 5
"""Samples seen as a multiple of the samples drawn. The held-out loss of small models was lowest after 2 to 5."""

BATCH_SIZE = 128
BATCHES_OF_SAMPLES = 8
"""Batches that the samples must fill at least, for the default batch size."""

INTERVALS = 64
"""Times that the held-out loss is measured in a whole training, at least: every thirteenth of a pass over the samples,
or after each step of a short training."""

NAME = "coreset-small"

GPU_MODEL: dict[str, Any] = {
    "embed_dim": 256,
    "vision_cfg": {"image_size": 112, "layers": 8, "width": 320, "head_width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 256, "heads": 4, "layers": 4},
}


@dataclass(frozen=True)
class Defaults:
    """Samples drawn, and the model's config."""

    samples: int
    config: dict[str, Any]


DEFAULTS = {"cpu": Defaults(20_000, PROXY_MODEL), "cuda": Defaults(200_000, GPU_MODEL)}
"""By type of device. On two CPU cores the whole budget of 100,000 samples seen takes some ten minutes."""


@dataclass(frozen=True)
class Budget:
    """The extent of a training."""

    samples: int
    intervals: int
    interval_steps: int
    batch_size: int

    @property
    def samples_seen(self) -> int:
        return self.intervals * self.interval_steps * self.batch_size


def budget(spec: TrainSpec, pool: int, device: torch.device, most: int) -> Budget:
    """Return the extent of a training on a pool of some samples.

    Args:
        most: largest number of samples seen that the operator allows (CORESET_MAX_TRAINING_SAMPLES); 0 for none.

    Raises:
        InvalidSpec: more is asked for than is allowed.
    """
    require_allowed(spec, most)
    samples = min(spec.samples or DEFAULTS[device.type].samples, max(pool, 1))
    seen = min(spec.samples_seen or PASSES * samples, most)
    batch = spec.batch_size or max(8, min(BATCH_SIZE, samples // BATCHES_OF_SAMPLES))
    steps = max(1, seen // batch)
    interval_steps = max(1, steps // INTERVALS)
    return Budget(samples, steps // interval_steps, interval_steps, batch)


def planned_model(spec: TrainSpec, device: torch.device) -> PlannedModel:
    """Return the architecture. Raises CheckpointUnusable if open_clip knows none of that name."""
    if spec.model is None:
        return PlannedModel(name=NAME, config=DEFAULTS[device.type].config, source="default")
    name = spec.model.name or NAME
    return PlannedModel(name=name, config=spec.model.config or registered(name), source="spec")
