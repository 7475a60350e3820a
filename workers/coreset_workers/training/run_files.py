"""Files of a trained run, in open_clip's layout, and the states from which a training continues."""

import io
import json
import sys
from dataclasses import asdict
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from coreset.errors import DamagedFile, NotFound
from coreset.schemas.manifest import File
from coreset.schemas.training import TrainingPlan
from coreset.spec.base import FrozenModel
from coreset.storage.layout import RunFolder
from coreset.storage.storage import Storage
from coreset.storage.verified import load_json, read_hashed, write_json
from coreset_workers.model.clip import build, preprocess_cfg
from coreset_workers.training.loop import BETAS, CLIP_NORM, EPSILON, WEIGHT_DECAY, Recipe


class Progress(FrozenModel):
    """How far a training is.

    Attributes:
        losses: the held-out loss before training and after each interval.
        states: by interval, the file of the state after it; the last interval's, and those that may become
            checkpoints.
        seconds: spent on training so far.
        diverged: whether the loss after the next interval was not finite.
    """

    losses: list[float] = Field(default_factory=list[float])
    states: dict[int, File] = Field(default_factory=dict[int, File])
    seconds: float = 0.0
    diverged: bool = False

    @property
    def interval(self) -> int:
        """Number of intervals done."""
        return len(self.losses) - 1


def load_progress(storage: Storage, run_id: str) -> tuple[Progress, dict[str, Any] | None] | None:
    """Return how far a training is, and its state; None if it has to begin: nothing is there, or a file is damaged."""
    folder = RunFolder(run_id)
    try:
        progress = load_json(storage, folder.progress, Progress.model_validate_json)
        states = {k: read_hashed(storage, folder.state(k), file.sha256) for k, file in progress.states.items()}
    except (NotFound, DamagedFile):
        return None
    return progress, _unpacked(states[progress.interval]) if progress.interval else None


def save_progress(storage: Storage, run_id: str, progress: Progress, before: Progress) -> None:
    """Write how far a training is, then delete the states that it needed before and no longer needs.

    Another job's worker may train the same run. It has the same states, and drops the same ones at the same interval,
    so neither deletes what the other still needs.
    """
    folder = RunFolder(run_id)
    write_json(storage, folder.progress, progress.model_dump_json())
    for interval in before.states.keys() - progress.states.keys():
        storage.delete(folder.state(interval))


def save_state(storage: Storage, plan: TrainingPlan, interval: int, state: dict[str, Any]) -> File:
    """Write the state after an interval, which is a checkpoint as open_clip's trainer writes it, and more."""
    content = {"epoch": interval, "name": plan.model.name, "global_step": state["step"], **state}
    buffer = io.BytesIO()
    torch.save(_canonical(content), buffer)
    return storage.write(RunFolder(plan.id).state(interval), buffer.getvalue())


def publish(storage: Storage, plan: TrainingPlan, progress: Progress, intervals: list[int]) -> dict[str, File]:
    """Write the run: params.txt, the architecture and the chosen checkpoints. Return the files by path."""
    folder = RunFolder(plan.id)
    files = {
        folder.params: storage.write(folder.params, _params(plan).encode()),
        folder.architecture: storage.write(folder.architecture, _architecture(plan).encode()),
    }
    for interval in intervals:
        data = read_hashed(storage, folder.state(interval), progress.states[interval].sha256)
        files[folder.checkpoint(interval)] = storage.write(folder.checkpoint(interval), data)
    return files


def recipe_of(plan: TrainingPlan) -> Recipe:
    """Return how a run is trained. Images are not mirrored: captions may name sides, and open_clip does not either."""
    return Recipe(plan.steps, plan.batch_size, plan.lr, plan.seed, mirror=False)


def _params(plan: TrainingPlan) -> str:
    """Return params.txt: an epoch is an interval, as with open_clip's --train-num-samples."""
    options = {
        "name": plan.id,
        "model": plan.model.name,
        "epochs": plan.intervals,
        "train_num_samples": plan.interval_steps * plan.batch_size,
        "batch_size": plan.batch_size,
        "world_size": 1,
        "workers": 1,
        "accum_freq": 1,
        "lr": plan.lr,
        "lr_scheduler": "cosine",
        "warmup": recipe_of(plan).warmup,
        "skip_scheduler": False,
        "opt": "adamw",
        "beta1": BETAS[0],
        "beta2": BETAS[1],
        "eps": EPSILON,
        "wd": WEIGHT_DECAY,
        "grad_clip_norm": CLIP_NORM,
        "precision": "fp32",
        "siglip": False,
        "seed": plan.seed,
    }
    return "".join(f"{name}: {value}\n" for name, value in sorted(options.items()))


def _architecture(plan: TrainingPlan) -> str:
    """Return open_clip_config.json, in the layout of open_clip's published models."""
    preprocess = asdict(preprocess_cfg(plan.model, build(plan.model)))
    return json.dumps({"model_cfg": plan.model.config, "preprocess_cfg": preprocess}, indent=4) + "\n"


def _unpacked(data: bytes) -> dict[str, Any]:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _canonical(value: Any) -> Any:
    """Return a copy that torch.save writes as the same bytes whatever shared objects the value was made of.

    A pickle refers back to objects that it has met: a state that was loaded shares others than one that was not.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu().clone().contiguous()
    if isinstance(value, dict):
        return {_canonical(key): _canonical(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_canonical(each) for each in value])
    return sys.intern(value) if type(value) is str else value
