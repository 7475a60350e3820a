"""Trials: one proxy each, trained on some rows of a pool and tested on its held-out samples. What is done is kept."""

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quality.models import PROXY, SIDE
from benchmarks.quality.scored import shards_in
from coreset.schemas.evaluation import Quality
from coreset.spec.pool import PoolSpec
from coreset.storage.storage import Storage
from coreset_workers.data.listing import list_shards
from coreset_workers.data.loader import Loader
from coreset_workers.evaluation.decoded import DecodedSamples, decode_shards
from coreset_workers.evaluation.measure import measure
from coreset_workers.evaluation.train import Rows, train_proxy
from coreset_workers.model.inputs import RUN, view_of

TESTS = ("explore", "test")
PHOTO_SAMPLES_SEEN = 19_200
"""Fewer leave V's loss on photos near that of chance."""


@dataclass(frozen=True)
class Budget:
    """What each proxy is given, whatever it is trained on."""

    samples_seen: int = 9_600
    batch_size: int = 64
    lr: float = 1e-3

    @classmethod
    def of(cls, pool: str) -> "Budget":
        """Return a pool's budget: those tested on photos get more."""
        return cls(PHOTO_SAMPLES_SEEN) if pool.startswith(("flickr", "mixed_photos")) else cls()


@dataclass(frozen=True)
class Trial:
    """A training to be done: of a pool's samples, by their uids in any order, with a seed.

    Attributes:
        pool: the name of its folder.
    """

    pool: str
    uids: tuple[str, ...]
    seed: int
    budget: Budget

    @property
    def key(self) -> str:
        what = [self.pool, sorted(self.uids), self.seed, asdict(self.budget), PROXY.config, SIDE]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]


def trainers(processes: int) -> ProcessPoolExecutor:
    """Return processes that train, with one thread each."""
    return ProcessPoolExecutor(processes, initializer=torch.set_num_threads, initargs=(1,))


def run_trials(
    trials: Iterable[Trial], work: Path, processes: Executor, device: str
) -> dict[Trial, dict[str, Quality]]:
    """Return the quality on each test split by trial; those that the folder `work` has are not done again."""
    storage = Storage(str(work))
    names = {trial: f"trials/{trial.key}.json" for trial in trials}
    todo = [(trial, name) for trial, name in names.items() if not storage.exists(name)]
    for future in [processes.submit(_run, trial, work, device, name) for trial, name in todo]:
        future.result()
    return {trial: _qualities(storage.read(name)) for trial, name in names.items()}


def _run(trial: Trial, work: Path, device: str, name: str) -> None:
    packed = _packed(work, trial.pool)
    place = {uid: i for i, uid in enumerate(packed["pool"].uids)}
    rows: Rows = np.array(sorted(place[uid] for uid in trial.uids), dtype=np.int64)
    model = train_proxy(PROXY, torch.device(device), packed["pool"], rows, **asdict(trial.budget), seed=trial.seed)
    found = {test: measure(model, packed[test]).model_dump() for test in TESTS}
    Storage(str(work)).write(name, json.dumps(found).encode())


def _qualities(text: bytes) -> dict[str, Quality]:
    found: dict[str, Any] = json.loads(text)
    return {test: Quality.model_validate(value) for test, value in found.items()}


@cache
def _packed(work: Path, pool: str) -> dict[str, DecodedSamples]:
    """Return the splits of a pool as tensors, made once."""
    storage, name = Storage(str(work)), f"{pool}/packed-{SIDE}.pt"
    if not storage.exists(name):
        loader = Loader({RUN: view_of(PROXY)}, None, processes=0)
        shards = {split: list_shards(PoolSpec(shards=shards_in(work / pool / split))) for split in ("pool", *TESTS)}
        packed = {split: asdict(decode_shards(found, loader)) for split, found in shards.items()}
        storage.write_with(name, lambda file: torch.save(packed, file))
    return {split: DecodedSamples(**fields) for split, fields in torch.load(work / name, weights_only=True).items()}
