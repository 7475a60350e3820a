"""One trial of an evaluation: a proxy trained on what a selection keeps, and tested on the held-out samples."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from coreset.errors import PoolUnusable, ShardUnreadable
from coreset.schemas.evaluation import TrialOutcome
from coreset.schemas.plan import Plan, PlannedShard
from coreset.schemas.trials import Setup, Trial
from coreset.selection.select import selected_uids
from coreset.spec.pool import CaptionField, Captions
from coreset.storage.storage import Storage
from coreset.storage.trials import load_outcome, save_outcome
from coreset_workers.data.listing import changed
from coreset_workers.data.loader import Loader
from coreset_workers.evaluation.decoded import DecodedSamples, decode_shards
from coreset_workers.evaluation.measure import measure
from coreset_workers.evaluation.train import Rows, train_proxy
from coreset_workers.model.device import device_name
from coreset_workers.model.inputs import RUN, view_of

NAMED_AT_MOST = 5

Advance = Callable[[float], object]
"""Callback with the finished share of a trial, 0 to 1; it raises to stop the trial."""


@dataclass(frozen=True)
class ProxyData:
    """What all trials of a setup see.

    Attributes:
        test: without the samples that are in the pool too.
        known: how many those are.
    """

    pool: DecodedSamples
    test: DecodedSamples
    known: int


def load_data(setup: Setup, plan: Plan, processes: int, advance: Advance) -> ProxyData:
    """Decode the pool and the test at the proxies' resolution.

    Raises:
        ShardUnreadable: names the shard.
        PoolUnusable: nothing is left of the test.
    """
    world = setup.world
    views = {RUN: view_of(world.model)}
    scored = [shard for shard in plan.shards if shard.index not in setup.left_out]
    packed: list[DecodedSamples] = []
    pools: list[tuple[list[PlannedShard], CaptionField, Captions | None]] = [
        (world.test, world.caption_field, None),
        (scored, plan.caption_field, plan.captions),
    ]
    for shards, caption_field, captions in pools:
        for shard in shards:
            _require_unchanged(shard)
        with closing(Loader(views, caption_field, processes, captions=captions)) as loader:
            packed.append(decode_shards(shards, loader, lambda: advance(0.0)))
    test, pool = packed
    unseen = test.without(set(pool.uids))
    if not len(unseen):
        raise PoolUnusable(
            f"none of the {len(test):,} good samples of `evaluate.test` is held out: all are in the pool, by their "
            "uids. Give samples that the pool does not have."
        )
    return ProxyData(pool, unseen, len(test) - len(unseen))


def _require_unchanged(shard: PlannedShard) -> None:
    what = changed(shard)
    if what is not None:
        raise ShardUnreadable(f"{shard.uri} {what}", uri=shard.uri)


def answer_trial(
    storage: Storage,
    plan: Plan,
    setup: Setup,
    trial: Trial,
    data: Callable[[], ProxyData],
    device: torch.device,
    advance: Advance,
) -> None:
    """Run the trial and keep its outcome under the plan, unless one is there. Raises as `data` and run_trial do."""
    if load_outcome(storage, setup, trial) is None:
        save_outcome(storage, setup, trial, run_trial(storage, plan, setup, trial, data(), device, advance))


def run_trial(
    storage: Storage, plan: Plan, setup: Setup, trial: Trial, data: ProxyData, device: torch.device, advance: Advance
) -> TrialOutcome:
    """Train a proxy and test it.

    Raises:
        InvalidSpec: the selection cannot be cut at this size.
        PoolUnusable: a sample that it keeps is not in the shards any more.
    """
    started = time.monotonic()
    rows = (
        np.arange(len(data.pool)) if trial.select is None else _rows(selected_uids(storage, plan, trial.select), data)
    )
    model = train_proxy(
        setup.world.model,
        device,
        data.pool,
        rows,
        setup.samples_seen,
        setup.batch_size,
        setup.lr,
        trial.seed,
        lambda fraction: advance(TRAINED * fraction),
    )
    quality = measure(model, data.test)
    return TrialOutcome(
        quality=quality,
        tested=len(data.test),
        known=data.known,
        seconds=round(time.monotonic() - started, 3),
        device=device_name(device),
    )


TRAINED = 0.95
"""Of a trial, when its proxy is trained."""


def _rows(kept: Mapping[str, int], data: ProxyData) -> Rows:
    """Return the rows of the kept samples in the order of the pool, each as often as it is kept."""
    place = {uid: row for row, uid in enumerate(data.pool.uids)}
    missing = sorted(kept.keys() - place.keys())
    if missing:
        raise PoolUnusable(
            f"{len(missing):,} samples of the selection cannot be read any more, for example "
            f"{', '.join(missing[:NAMED_AT_MOST])}: have the shards changed since they were scored?",
            uids=missing[:NAMED_AT_MOST],
        )
    rows = np.array([place[uid] for uid in kept], dtype=np.int64)
    return np.sort(np.repeat(rows, list(kept.values())))
