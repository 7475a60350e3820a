"""Steps and learning rates of a training run, from params.txt and from what the checkpoints record."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from coreset.schemas.plan import Sourced
from coreset_workers.checkpoints.params import Params, is_set, option

LR_TOLERANCE = 0.01
"""Share of the base learning rate by which the schedule may differ from the rate that a checkpoint records."""

Schedule = Callable[[int], float]
"""Learning rate of the 0-based step s."""


class RecordedRate(NamedTuple):
    """The step and the learning rate that a checkpoint file records."""

    uri: str
    step: int
    lr: float


def steps_per_epoch(params: Params) -> int | None:
    """Return the optimizer steps of an epoch; None if params.txt lacks the number of samples."""
    samples = option(params, "train_num_samples")
    if samples is None:
        return None
    batch = int(params["batch_size"]) * int(params.get("world_size", 1))
    workers = max(1, int(params.get("workers", 1)))
    batches = math.ceil(math.ceil(int(samples) / batch) / workers) * workers
    return batches // int(params.get("accum_freq", 1))


def schedule_from(params: Params, total_steps: int) -> Schedule | None:
    """Return open_clip's learning rate schedule; None if params.txt lacks `lr` or `warmup`."""
    if "lr" not in params or "warmup" not in params:
        return None
    base, warmup = float(params["lr"]), int(params["warmup"])
    kind = "const" if is_set(params, "skip_scheduler") else params.get("lr_scheduler", "cosine")
    if is_set(params, "skip_scheduler"):
        warmup = 0
    cooldown_epochs = params.get("epochs_cooldown", "None")
    cooldown = 0 if cooldown_epochs == "None" else round(total_steps * int(cooldown_epochs) / int(params["epochs"]))
    power, end = float(params.get("lr_cooldown_power", 1.0)), float(params.get("lr_cooldown_end", 0.0))

    def lr(step: int) -> float:
        if step < warmup:
            return base * (step + 1) / warmup
        if kind == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total_steps - warmup))) * base
        start = total_steps - cooldown
        if kind == "const" or step < start:
            return base
        return (1 - (step - start) / cooldown) ** power * (base - end) + end

    return lr


def verified_schedule(
    params: Params, per_epoch: float, recorded: Iterable[RecordedRate]
) -> tuple[Schedule | None, list[str]]:
    """Return the run's schedule if it agrees with the recorded rates, and a warning if it does not.

    Args:
        per_epoch: optimizer steps of an epoch; 0 if they are not known.
    """
    if "epochs" not in params or not per_epoch:
        return None, []
    schedule = schedule_from(params, round(per_epoch * int(params["epochs"])))
    if schedule is None:
        return None, []
    base = float(params["lr"])
    for uri, step, lr in recorded:
        expected = schedule(step - 1)
        if abs(expected - lr) > LR_TOLERANCE * base:
            return None, [
                f"{uri} holds lr {lr:.3g}, params.txt says {expected:.3g} for its step: "
                "the learning rates between checkpoints are interpolated"
            ]
    return schedule, []


def lr_sum(schedule: Schedule | None, before: int, step: int, lr_before: float, lr: float) -> Sourced:
    """Return the sum of the learning rates of the steps before+1 .. step."""
    if schedule is not None:
        return Sourced(value=math.fsum(schedule(s) for s in range(before, step)), source="params.txt")
    return Sourced(value=(step - before) * (lr_before + lr) / 2, source="interpolated")
