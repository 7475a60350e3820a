"""Trials: one proxy each, trained on some rows of a pool and tested on its held-out samples. What is done is kept."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quality.models import PROXY, SIDE
from coreset.evaluation import Quality
from coreset.plan import PlannedShard
from workers.clip_model import build, preprocess_cfg
from workers.pairs import RUN
from workers.proxies.measure import measure
from workers.proxies.packed import Packed, pack
from workers.proxies.train import Rows, train_proxy
from workers.samples.loader import Loader, View

TESTS = ("explore", "test")


@dataclass(frozen=True)
class Budget:
    """What each proxy is given, whatever it is trained on."""

    samples_seen: int = 9_600
    batch_size: int = 64
    lr: float = 1e-3


@dataclass(frozen=True)
class Trial:
    """A training to be done: of a pool's samples, by their uids in any order, with a seed."""

    pool: str
    uids: tuple[str, ...]
    seed: int

    def key(self, budget: Budget) -> str:
        what = [self.pool, sorted(self.uids), self.seed, asdict(budget), PROXY.config, SIDE]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]


def run_trials(
    trials: Iterable[Trial], budget: Budget, work: Path, processes: int, tell: Callable[[int, int], None]
) -> dict[Trial, dict[str, Quality]]:
    """Return the quality on each test split by trial; those that the folder `work` has are not done again."""
    wanted = list(dict.fromkeys(trials))
    paths = {trial: work / "trials" / f"{trial.key(budget)}.json" for trial in wanted}
    todo = sorted((t for t in wanted if not paths[t].exists()), key=lambda trial: trial.pool)
    (work / "trials").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = [pool.submit(_run, trial, budget, work, paths[trial]) for trial in todo]
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()
            tell(done, len(todo))
    return {trial: _read(paths[trial]) for trial in wanted}


def _run(trial: Trial, budget: Budget, work: Path, path: Path) -> None:
    packed = _packed(work, trial.pool)
    place = {uid: i for i, uid in enumerate(packed["pool"].uids)}
    rows: Rows = np.array(sorted(place[uid] for uid in trial.uids), dtype=np.int64)
    model = train_proxy(PROXY, torch.device("cpu"), packed["pool"], rows, **asdict(budget), seed=trial.seed)
    found = {test: measure(model, packed[test]).model_dump() for test in TESTS}
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(found))
    partial.replace(path)


def _read(path: Path) -> dict[str, Quality]:
    found: dict[str, Any] = json.loads(path.read_text())
    return {test: Quality.model_validate(value) for test, value in found.items()}


@cache
def _packed(work: Path, pool: str) -> dict[str, Packed]:
    """Return the splits of a pool as tensors, made once."""
    path = work / pool / f"packed-{SIDE}.pt"
    if not path.exists():
        loader = Loader({RUN: View(PROXY, preprocess_cfg(PROXY, build(PROXY)))}, None, processes=0)
        packed = {split: asdict(pack(planned(work / pool / split), loader)) for split in ("pool", *TESTS)}
        torch.save(packed, path.with_suffix(f".{os.getpid()}"))
        path.with_suffix(f".{os.getpid()}").replace(path)
    return {split: Packed(**fields) for split, fields in torch.load(path, weights_only=True).items()}


def planned(folder: Path) -> list[PlannedShard]:
    """Return the shards of a folder."""
    paths = sorted(folder.glob("*.tar"))
    return [PlannedShard(index=i, uri=str(path), size=path.stat().st_size) for i, path in enumerate(paths)]
