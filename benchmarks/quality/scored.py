"""A pool, a training run on it by open_clip's trainer, and its scores for each target: by the job that users run."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.quality.models import CONFIG, PROXY
from benchmarks.quality.pools import Splits, write_splits
from coreset.schemas.manifest import Manifest
from coreset.schemas.plan import Plan
from coreset.spec.job import JobSpec
from coreset.spec.pool import PoolSpec
from coreset.spec.scores import DEFAULT_SCORES
from coreset.storage.storage import Storage
from coreset_workers.checkpoints import files
from coreset_workers.data.listing import list_shards
from coreset_workers.data.loader import Loader
from coreset_workers.evaluation.decoded import decode_shards
from coreset_workers.local.job import run_job
from coreset_workers.model.clip import ClipModel
from coreset_workers.model.inputs import RUN, view_of
from demo.train import Training, train

REFERENCE = 128
VALIDATION = 500
TRAINING: dict[str, Any] = {"epochs": 5, "batch_size": 64, "lr": 1e-3}

Horizon = Literal["last", "lowest", "before the lowest", "half of the fall", "four fifths of the fall"]
"""Which checkpoint influence is traced up to, by V's loss L_V; `lowest` is what a job does by default."""


@dataclass(frozen=True)
class Scored:
    """The scores of a pool for one target."""

    storage: Storage
    plan: Plan
    manifest: Manifest


def make_pool(splits: Callable[[], Splits], folder: Path, seed: int = 0) -> None:
    """Write a pool's splits and train on it, unless that was done to its end before."""
    if (folder / "logs").exists():
        return
    write_splits(splits(), folder)
    train_small(folder / "pool", folder, seed)


def train_small(pool: Path, folder: Path, seed: int = 0) -> Path:
    """Train the small CLIP on a pool by open_clip's trainer; return the run, which is in `folder` only when whole."""
    config, partial = folder / "model.json", folder / "partial"
    config.write_text(json.dumps(CONFIG))
    shutil.rmtree(partial, ignore_errors=True)
    train(pool, partial, Training(name="run", model_config=config, seed=seed, **TRAINING))
    return partial.rename(folder / "logs") / "run"


def checkpoints_of(folder: Path) -> list[Path]:
    """Return the checkpoints of the folder's run, in training order."""
    found = (folder / "logs" / "run" / "checkpoints").glob("epoch_*.pt")
    return sorted(found, key=lambda path: int(path.stem.removeprefix("epoch_")))


def digest_of_run(folder: Path) -> str:
    """Return a digest of the run's last weights: proxies of two trainings on one pool are not compared."""
    weights: dict[str, torch.Tensor] = files.load(str(checkpoints_of(folder)[-1])).state_dict
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(weights[name].contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def score(folder: Path, target: str, horizon: int | str = "last", seed: int = 0, **changes: Any) -> Scored:
    """Score the pool in this process, with V = training or the validation split.

    Args:
        horizon: as in a spec: `auto`, `last` or a step.
        seed: of the draw of B and the minibatches.
    """
    spec = {
        "pool": {"shards": shards_in(folder / "pool")},
        "checkpoints": {"run": str(folder / "logs" / "run"), "horizon": horizon},
        "target": _target(folder, target),
        "reference": {"size": REFERENCE, "seed": seed},
        "scores": ["diffin", "tracin", "clip_score", "neg_clip_loss", "loss", "random"],
        "select": {"fraction": 0.5},
        "thumbnails": False,
    }
    storage = Storage(str(folder / "store"))
    manifest = run_job(JobSpec.model_validate(spec | changes), storage, lambda _: None, loader_processes=0)
    plan = Plan.from_json(storage.read(f"plans/{manifest.plan_id}/plan.json"))
    return Scored(storage, plan, manifest)


def score_at(folder: Path, target: str, horizon: Horizon, seed: int) -> Scored:
    """Score the pool with influence traced up to a checkpoint that V's loss names; up to the last, by all scores."""
    if horizon == "last":
        return score(folder, target, "last", seed)
    usual = score(folder, target, "auto", seed, scores=list(DEFAULT_SCORES))
    found = usual.manifest.horizon
    if horizon == "lowest" or target == "training" or found is None:
        return usual
    index = horizon_index([loss.target or math.inf for loss in found.losses], math.log(VALIDATION), horizon)
    if index == found.checkpoint:
        return usual
    return score(folder, target, round(found.losses[index].step), seed, scores=["diffin", "clip_score", "random"])


def horizon_index(losses: Sequence[float], chance: float, horizon: Horizon) -> int:
    """Return the index of the checkpoint that a rule takes.

    Args:
        losses: L_V by checkpoint.
        chance: L_V of a model that knows nothing, from which its fall begins.
    """
    lowest = min(range(len(losses)), key=losses.__getitem__)
    shares = {"half of the fall": 0.5, "four fifths of the fall": 0.8}
    if horizon in shares:
        wanted = chance - shares[horizon] * (chance - losses[lowest])
        return next(index for index, loss in enumerate(losses) if loss <= wanted or index == lowest)
    return {"last": len(losses) - 1, "lowest": lowest, "before the lowest": max(0, lowest - 1)}[horizon]


def norm_sim(folder: Path) -> dict[str, float]:
    """Return by uid the largest cosine of a sample's image with an image of V, by the run's last checkpoint."""
    path = folder / "norm_sim.json"
    if not path.exists():
        weights = files.load(str(checkpoints_of(folder)[-1])).state_dict
        model = ClipModel.build(PROXY, torch.device("cpu"))
        model.module.load_state_dict({name.removeprefix("module."): value for name, value in weights.items()})
        uids, images = _images(model, folder / "pool")
        nearest = (images @ _images(model, folder / "validation")[1].T).max(axis=1)
        path.write_text(json.dumps(dict(zip(uids, nearest.tolist(), strict=True))))
    return json.loads(path.read_text())


@torch.no_grad()
def _images(model: ClipModel, shards: Path) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Return the uids and the images' embeddings of length 1, (n, d)."""
    loader = Loader({RUN: view_of(PROXY)}, None, processes=0)
    samples = decode_shards(list_shards(PoolSpec(shards=shards_in(shards))), loader)
    module: Any = model.module.eval()
    found = [module.encode_image(model.normalised(batch), normalize=True) for batch in samples.images.split(256)]
    return samples.uids, torch.cat(found).float().numpy()


def _target(folder: Path, target: str) -> Any:
    if target == "training":
        return "training"
    return {"pool": {"shards": shards_in(folder / "validation")}, "size": VALIDATION}


def shards_in(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.glob("*.tar"))]
