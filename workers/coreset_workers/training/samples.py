"""The samples of a trained run in memory: drawn from the pool by a seed, those to train on and those held out."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

import numpy as np
import torch

from coreset.errors import PoolUnusable, ShardUnreadable
from coreset.schemas.plan import PlannedShard
from coreset.schemas.training import POOL, TARGET, TrainingPlan
from coreset_workers.data.decode import Sample
from coreset_workers.data.loader import Loader
from coreset_workers.data.reference import draw
from coreset_workers.model.inputs import RUN, view_of
from coreset_workers.training.decoded import DecodedSamples, concatenated, decode_shards

MAX_HELD_OUT = 1024
"""Largest number of samples that are held out of the pool: more cost time at each measurement and measure no better."""

FEWEST_HELD_OUT = 8


@dataclass(frozen=True)
class TrainingData:
    """Samples to train on, and those that the held-out loss is measured on."""

    train: DecodedSamples
    held_out: DecodedSamples
    held_out_source: str


def load_training_data(plan: TrainingPlan, processes: int, advance: Callable[[], object]) -> TrainingData:
    """Decode the samples of a run at its resolution.

    Args:
        advance: called after each sample.

    Raises:
        PoolUnusable: too few good samples.
    """
    views = {RUN: view_of(plan.model)}
    with closing(Loader(views, plan.caption_field, processes)) as loader:
        drawn = _draw(plan.shards, plan.samples, plan.seed, loader, advance)
    if plan.validation is None:
        count = min(MAX_HELD_OUT, max(FEWEST_HELD_OUT, round(plan.held_out * len(drawn))))
        train, held_out, source = drawn.take(slice(count, None)), drawn.take(slice(count)), POOL
    else:
        with closing(Loader(views, plan.validation.caption_field, processes)) as loader:
            samples, _ = draw(plan.validation.shards, plan.validation.size, plan.validation.seed, loader)
        held_out, source = _decoded(samples), TARGET
        train = drawn.without(set(held_out.uids))
    _require(train, held_out, plan)
    return TrainingData(train, held_out, source)


def _draw(
    shards: Sequence[PlannedShard], wanted: int, seed: int, loader: Loader, advance: Callable[[], object]
) -> DecodedSamples:
    """Return up to `wanted` good samples with distinct uids, in an order drawn by the seed.

    Shards are read whole, in an order drawn by the seed, until there are enough samples: of a pool that is larger, the
    samples of some shards are taken. A shard that cannot be read is left out here; it fails in its own task.
    """
    pieces: list[DecodedSamples] = []
    known: set[str] = set()
    for shard in sorted(shards, key=lambda shard: _hash(seed, shard.draw_name)):
        with suppress(ShardUnreadable):
            if len(new := decode_shards([shard], loader, advance).without(known)):
                pieces.append(new)
                known.update(new.uids)
        if len(known) >= wanted:
            break
    if not pieces:
        raise PoolUnusable(f"none of the {len(shards)} shards has a good sample, so there is nothing to train on")
    found = concatenated(pieces)
    order = sorted(range(len(found)), key=lambda row: _hash(seed, found.uids[row]))
    return found.take(order[:wanted])


def _hash(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}/{text}".encode()).digest()


def _decoded(samples: Sequence[Sample]) -> DecodedSamples:
    images, tokens = (
        torch.from_numpy(np.stack([getattr(sample, name)[RUN] for sample in samples])) for name in ("images", "tokens")
    )
    return DecodedSamples([s.uid for s in samples], [s.caption or "" for s in samples], images, tokens)


def _require(train: DecodedSamples, held_out: DecodedSamples, plan: TrainingPlan) -> None:
    """Raise PoolUnusable unless there is a batch to train on, and a loss to measure."""
    if len(train) < plan.batch_size:
        raise PoolUnusable(
            f"{len(train)} samples are left to train on, fewer than a batch of {plan.batch_size}. Give more shards, or "
            "a smaller `checkpoints.train.batch_size`."
        )
    if len(set(held_out.captions)) < 2:
        raise PoolUnusable(
            f"the {len(held_out)} held-out samples share one caption, so there is no loss: equal captions are no "
            "negatives of each other. Check `caption_field`, or give a larger `checkpoints.train.held_out`."
        )
