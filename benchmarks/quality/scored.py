"""A pool, a training run on it by open_clip's trainer, and its scores for each target: by the job that users run."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality.models import CONFIG
from benchmarks.quality.pools import Splits, write_splits
from coreset.schemas.manifest import Manifest
from coreset.schemas.plan import Plan
from coreset.spec.job import JobSpec
from coreset.storage.storage import Storage
from coreset_workers.local.job import run_job
from demo.train import Training, train

REFERENCE = 128
VALIDATION = 500
HORIZON = "last"
"""As the committed rows were measured; "auto" is what a job with a validation target does by default."""
TRAINING: dict[str, Any] = {"epochs": 5, "batch_size": 64, "lr": 1e-3}


@dataclass(frozen=True)
class Scored:
    """The scores of a pool for one target."""

    storage: Storage
    plan: Plan
    manifest: Manifest


def make_pool(splits: Callable[[], Splits], folder: Path) -> None:
    """Write a pool's splits and train on it, unless that was done to its end before."""
    if (folder / "logs").exists():
        return
    write_splits(splits(), folder)
    train_small(folder / "pool", folder)


def train_small(pool: Path, folder: Path) -> Path:
    """Train the small CLIP on a pool by open_clip's trainer; return the run, which is in `folder` only when whole."""
    config, partial = folder / "model.json", folder / "partial"
    config.write_text(json.dumps(CONFIG))
    shutil.rmtree(partial, ignore_errors=True)
    train(pool, partial, Training(name="run", model_config=config, **TRAINING))
    return partial.rename(folder / "logs") / "run"


def score(folder: Path, target: str, **changes: Any) -> Scored:
    """Score the pool in this process, with V = training or the validation split."""
    spec = {
        "pool": {"shards": shards_in(folder / "pool")},
        "checkpoints": {"run": str(folder / "logs" / "run"), "horizon": HORIZON},
        "target": _target(folder, target),
        "reference": {"size": REFERENCE},
        "scores": ["diffin", "tracin", "clip_score", "neg_clip_loss", "loss", "random"],
        "select": {"fraction": 0.5},
        "thumbnails": False,
    }
    storage = Storage(str(folder / "store"))
    manifest = run_job(JobSpec.model_validate(spec | changes), storage, lambda _: None, loader_processes=0)
    plan = Plan.from_json(storage.read(f"plans/{manifest.plan_id}/plan.json"))
    return Scored(storage, plan, manifest)


def _target(folder: Path, target: str) -> Any:
    if target == "training":
        return "training"
    return {"pool": {"shards": shards_in(folder / "validation")}, "size": VALIDATION}


def shards_in(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.glob("*.tar"))]
