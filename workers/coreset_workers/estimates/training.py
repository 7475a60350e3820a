"""The price of a run that a job would train, and the run as far as it can be foreseen."""

import time
from dataclasses import replace

import numpy as np
import torch

from coreset.schemas.plan import PlannedCheckpoint, Sourced
from coreset.schemas.training import TrainedRun, TrainingFound, TrainingPlan
from coreset.storage.layout import RunFolder
from coreset.storage.storage import Storage
from coreset_workers.checkpoints.run import PlannedRun
from coreset_workers.model.clip import ClipModel, build, preprocess_cfg
from coreset_workers.model.meta_device import Shadow
from coreset_workers.training.decoded import DecodedSamples
from coreset_workers.training.loop import Training
from coreset_workers.training.plan import bytes_in_memory
from coreset_workers.training.run_files import recipe_of

TIMED_SECONDS = 1.0

VECTORS_STORED = 3
"""Vectors of the parameters' size in a checkpoint: the weights, and both moments of AdamW."""

FORESEEN = "foreseen"
"""Source of the numbers of checkpoints that are still to be trained."""


def price_training(plan: TrainingPlan, storage: Storage, run: TrainedRun | None, device: torch.device) -> TrainingFound:
    """Return what the run of a plan takes, after timing some steps of its training.

    Args:
        run: the run if it is there already; it costs nothing more.
    """
    return TrainingFound(
        run=storage.uri(RunFolder(plan.id).root),
        model=plan.model,
        samples=plan.samples,
        samples_seen=plan.samples_seen,
        bytes_in_memory=bytes_in_memory(plan),
        bytes_stored=plan.checkpoints * checkpoint_bytes(plan),
        seconds=0.0 if run else round(plan.steps * _seconds_a_step(plan, device), 1),
        trained=run is not None,
    )


def checkpoint_bytes(plan: TrainingPlan) -> int:
    """Return the size of a checkpoint file."""
    return VECTORS_STORED * 4 * sum(value.numel() for value in build(plan.model).parameters())


def foreseen_run(plan: TrainingPlan, storage: Storage) -> PlannedRun:
    """Return a run with as many checkpoints as training keeps at most, in equal distances."""
    recipe, size = recipe_of(plan), checkpoint_bytes(plan)
    count = min(plan.checkpoints, plan.intervals)
    epochs = [plan.intervals * (index + 1) // count for index in range(count)]
    steps = [0] + [epoch * plan.interval_steps for epoch in epochs]
    checkpoints = [
        PlannedCheckpoint(
            index=index,
            uri=storage.uri(RunFolder(plan.id).checkpoint(epoch)),
            size=size,
            sha256="",
            epoch=epoch,
            step=Sourced(value=steps[index + 1], source=FORESEEN),
            lr=Sourced(value=recipe.rate(steps[index + 1] - 1), source=FORESEEN),
            lr_sum=Sourced(
                value=sum(recipe.rate(step) for step in range(steps[index], steps[index + 1])), source=FORESEEN
            ),
            optimizer="adamw",
        )
        for index, epoch in enumerate(epochs)
    ]
    preprocess = dict(vars(preprocess_cfg(plan.model, build(plan.model))))
    model = plan.model.model_copy(update={"preprocess": preprocess, "preprocess_source": "run"})
    return PlannedRun(checkpoints, model, {}, [])


def _seconds_a_step(plan: TrainingPlan, device: torch.device) -> float:
    """Return the seconds of a training step on blank samples."""
    recipe = replace(recipe_of(plan), steps=10**9)  # as many as there is time for
    training = Training(plan.model, device, _blank(plan, device), np.arange(plan.batch_size), recipe)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    training.step()  # the first one picks kernels and takes memory
    wait()
    started = time.perf_counter()
    while time.perf_counter() - started < TIMED_SECONDS:
        training.step()
        wait()
    return (time.perf_counter() - started) / (training.done - 1)


def _blank(plan: TrainingPlan, device: torch.device) -> DecodedSamples:
    """Return a batch of black images with empty captions."""
    count = plan.batch_size
    pairs = Shadow.of(ClipModel.build(plan.model, device)).pairs(count)
    images, tokens = torch.zeros(pairs.images.shape, dtype=torch.uint8), torch.zeros(pairs.tokens.shape).long()
    return DecodedSamples([""] * count, [""] * count, images, tokens)
