"""Trains one proxy: a CLIP from scratch on some samples of a pool, the same bits for the same seed on one machine."""

from collections.abc import Callable

import torch

from coreset.schemas.plan import PlannedModel
from coreset_workers.model.clip import ClipModel
from coreset_workers.training.decoded import DecodedSamples
from coreset_workers.training.loop import Recipe, Rows, Training


def train_proxy(
    planned: PlannedModel,
    device: torch.device,
    pool: DecodedSamples,
    rows: Rows,
    samples_seen: int,
    batch_size: int,
    lr: float,
    seed: int,
    advance: Callable[[float], object] = lambda _: None,
) -> ClipModel:
    """Train a fresh model and return it in eval mode.

    Args:
        rows: (k,) the samples of the pool to train on; one that is there twice counts twice.
        samples_seen: whatever k is, so that all selections cost the same.
        seed: of the weights, of the order of samples and of the augmentation.
        advance: called after each step with the finished share, 0 to 1.
    """
    steps = max(1, samples_seen // batch_size)
    training = Training(planned, device, pool, rows, Recipe(steps, batch_size, lr, seed))
    for step in range(steps):
        training.step()
        advance((step + 1) / steps)
    return training.finish()
