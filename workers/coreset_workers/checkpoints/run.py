"""Training runs: their checkpoint files in order, planned with step, learning rate and architecture."""

import itertools
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from coreset.errors import CheckpointUnusable
from coreset.schemas.plan import PlannedCheckpoint, PlannedModel, Sourced
from coreset.spec.checkpoints import CheckpointFile, CheckpointsSpec
from coreset.spec.model import ModelSpec
from coreset_workers.checkpoints.architecture import activation_warning, resolve_model
from coreset_workers.checkpoints.files import LoadedCheckpoint, inspect, sha256
from coreset_workers.checkpoints.optimizer import is_adam, optimizer_lr, optimizer_step
from coreset_workers.checkpoints.params import Params, is_set, option, read_params
from coreset_workers.checkpoints.schedule import RecordedRate, lr_sum, steps_per_epoch, verified_schedule
from coreset_workers.data.opening import absolute, names_in

MAX_STEPS = 10_000_000
"""Optimizer steps of a training; the longest published runs have some hundred thousand. Each one is a term of a sum."""

Locks = dict[str, dict[str, Any]]
"""Arguments of open_clip's lock_image_tower and lock_text_tower, by `image` and `text`, for towers that were locked."""


IMPOSSIBLE = (ValueError, KeyError, TypeError, OverflowError, ZeroDivisionError, RecursionError)
"""Errors that values which no training writes raise in arithmetic and look-ups."""


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
        directory: of the run; None if files were given.
        params: options of the run; empty without params.txt.
        files: checkpoint files in training order.
        latest: epoch_latest.pt beside numbered files.
    """

    directory: str | None
    params: Params
    files: list[CheckpointFile]
    latest: str | None = None


@dataclass(frozen=True)
class PlannedRun:
    """A training run as a plan records it.

    Attributes:
        locks: towers that were locked in training.
        warnings: what a user should know.
    """

    checkpoints: list[PlannedCheckpoint]
    model: PlannedModel
    locks: Locks
    warnings: list[str]


def find(spec: CheckpointsSpec) -> Run:
    """Return the run's checkpoint files in training order.

    Raises:
        CheckpointUnusable: the directory does not exist or contains no checkpoint.
    """
    if spec.files is not None:
        files = [file.model_copy(update={"uri": absolute(file.uri)}) for file in spec.files]
        return Run(None, {}, files[-spec.last :] if spec.last else files)
    assert spec.run is not None
    directory = absolute(spec.run.rstrip("/"))
    if posixpath.basename(directory) == "checkpoints":
        directory = posixpath.dirname(directory)
    for folder in (f"{directory}/checkpoints", directory):
        uris, latest = _checkpoint_files(folder)
        if uris:
            files = [CheckpointFile(uri=uri) for uri in uris]
            return Run(directory, read_params(directory), files[-spec.last :] if spec.last else files, latest)
    raise CheckpointUnusable(
        f"{directory} has no checkpoints/epoch_K.pt. Give the run's directory (the one with params.txt), and "
        "train with --save-frequency 1, so that there is more than the last one.",
        uri=directory,
    )


def _checkpoint_files(directory: str) -> tuple[list[str], str | None]:
    """Return the URIs of epoch_K.pt in natural order, and of epoch_latest.pt beside them; the latter if it is alone."""
    try:
        names = names_in(directory)
    except (FileNotFoundError, NotADirectoryError):
        return [], None
    numbered = sorted((int(m[1]), m[0]) for name in names if (m := re.fullmatch(r"epoch_(\d+)(?:\.pt)?", name)))
    latest = f"{directory}/epoch_latest.pt" if "epoch_latest.pt" in names else None
    if numbered:
        return [f"{directory}/{name}" for _, name in numbered], latest
    return [latest] if latest else [], None


@dataclass(frozen=True)
class _Recorded:
    """What one checkpoint file records, with what the spec says about it."""

    file: CheckpointFile
    epoch: int | None
    step: Sourced
    lr: Sourced | None
    has_optimizer: bool
    is_adam: bool


def plan_checkpoints(
    spec: CheckpointsSpec, model: ModelSpec | None, progress: Callable[[], object] = lambda: None
) -> PlannedRun:
    """Return the checkpoints with step, lr and lr_sum, the architecture, and warnings.

    Args:
        progress: called after each file.

    Raises:
        CheckpointUnusable: a file cannot be used, or its step or lr cannot be found.
    """
    run = find(spec)
    try:
        return _planned(run, model, progress)
    except IMPOSSIBLE as error:
        raise CheckpointUnusable(
            f"{run.directory or run.files[0].uri}: params.txt, the model's config or the optimizer state of a "
            f"checkpoint has an impossible value ({type(error).__name__}: {error})",
            uri=run.directory or run.files[0].uri,
        ) from error


def _planned(run: Run, spec: ModelSpec | None, progress: Callable[[], object]) -> PlannedRun:
    model = resolve_model(spec, run.directory, run.params)
    recorded: list[_Recorded] = []
    for file in run.files:
        recorded.append(_recorded(file, run.params))
        progress()
    _check_order(recorded)
    last = recorded[-1]
    per_epoch = last.step.value / last.epoch if last.epoch else (steps_per_epoch(run.params) or 0)
    rates = [
        RecordedRate(one.file.uri, int(one.step.value), one.lr.value)
        for one in recorded
        if one.lr is not None and one.lr.source != "spec"
    ]
    schedule, warnings = verified_schedule(run.params, per_epoch, rates)
    planned: list[PlannedCheckpoint] = []
    before = 0
    for one in recorded:
        step = int(one.step.value)
        lr = one.lr or (Sourced(value=schedule(step - 1), source="params.txt") if schedule else None)
        if lr is None:
            raise CheckpointUnusable(
                f"{one.file.uri} records no learning rate: it has no optimizer state. "
                "Give `lr` with the file in `checkpoints.files`.",
                uri=one.file.uri,
            )
        size, digest = sha256(one.file.uri)
        planned.append(
            PlannedCheckpoint(
                index=len(planned),
                uri=one.file.uri,
                size=size,
                sha256=digest,
                epoch=one.epoch,
                step=one.step,
                lr=lr,
                lr_sum=lr_sum(schedule, before, step, planned[-1].lr.value if planned else lr.value, lr.value),
                optimizer="adamw" if one.is_adam else None,
            )
        )
        before = step
    found = (activation_warning(model, run.params), _optimizer_warning(run.params, last), _latest_warning(run, last))
    return PlannedRun(planned, model, locks(run.params), warnings + [warning for warning in found if warning])


def locks(params: Params) -> Locks:
    """Return which towers a run locked, and how."""
    locked: Locks = {}
    if is_set(params, "lock_image"):
        locked["image"] = {
            "unlocked_groups": int(params.get("lock_image_unlocked_groups", 0)),
            "freeze_bn_stats": is_set(params, "lock_image_freeze_bn_stats"),
        }
    if is_set(params, "lock_text"):
        locked["text"] = {
            "unlocked_layers": int(params.get("lock_text_unlocked_layers", 0)),
            "freeze_layer_norm": is_set(params, "lock_text_freeze_layer_norm"),
        }
    return locked


def _optimizer_warning(params: Params, last: _Recorded) -> str | None:
    """Return a warning if Adam's preconditioner cannot be known."""
    if last.is_adam:
        return None
    if not last.has_optimizer:
        return "the checkpoints hold no optimizer state: diffin takes the run for plain SGD (P = 1)"
    return (
        f"the run was trained with {option(params, 'opt') or 'an optimizer other than Adam'}, whose preconditioner is "
        "not known: diffin takes its steps for those of plain SGD (P = 1)"
    )


def _latest_warning(run: Run, last: _Recorded) -> str | None:
    """Return a warning if epoch_latest.pt goes beyond the last numbered checkpoint."""
    if run.latest is None:
        return None
    try:
        latest = _recorded(CheckpointFile(uri=run.latest), run.params)
    except (CheckpointUnusable, *IMPOSSIBLE) as error:
        return f"{run.latest} is not used, and cannot be read: {error}"
    if latest.step.value <= last.step.value:
        return None
    return (
        f"{run.latest} (step {latest.step.value:.0f}) is newer than {last.file.uri} (step {last.step.value:.0f}) and "
        "is not used, since the trainer overwrites it. To use it, copy it to epoch_K.pt, or list the files in "
        "`checkpoints.files`."
    )


def _recorded(file: CheckpointFile, params: Params) -> _Recorded:
    loaded = inspect(file.uri)
    lr = optimizer_lr(loaded.optimizer)
    if file.lr is not None:
        rate = Sourced(value=file.lr, source="spec")
    else:
        rate = None if lr is None else Sourced(value=lr, source="optimizer state")
    step = _step(file, loaded, params)
    if not 0 <= step.value <= MAX_STEPS:
        raise CheckpointUnusable(
            f"{file.uri}: the step {step.value:,.0f} ({step.source}) is no training's; expected 0 to {MAX_STEPS:,}. "
            "Give `step` with the file in `checkpoints.files`.",
            uri=file.uri,
        )
    adam = is_adam(loaded.optimizer, option(params, "opt"))
    return _Recorded(file, loaded.epoch, step, rate, bool(loaded.optimizer), adam)


def _step(file: CheckpointFile, loaded: LoadedCheckpoint, params: Params) -> Sourced:
    if file.step is not None:
        return Sourced(value=file.step, source="spec")
    if loaded.global_step is not None:
        return Sourced(value=loaded.global_step, source="global_step")
    step = optimizer_step(loaded.optimizer)
    if step is not None:
        return Sourced(value=step, source="optimizer state")
    per_epoch = steps_per_epoch(params)
    if per_epoch and loaded.epoch:
        return Sourced(value=loaded.epoch * per_epoch, source="params.txt")
    if loaded.optimizer:
        name = option(params, "opt") or "its optimizer"
        why = f"the state of {name} counts no steps, and there is no global_step"
    else:
        why = "it has neither global_step nor optimizer state. Released weights are like that"
    raise CheckpointUnusable(
        f"{file.uri} records no step: {why}. Give `step` and `lr` with the file in `checkpoints.files`.",
        uri=file.uri,
    )


def _check_order(recorded: list[_Recorded]) -> None:
    for before, after in itertools.pairwise(recorded):
        if after.step.value <= before.step.value:
            raise CheckpointUnusable(
                f"{after.file.uri} (step {after.step.value:.0f}) does not come after {before.file.uri} "
                f"(step {before.step.value:.0f}). Give the checkpoints of one run, in training order.",
                uri=after.file.uri,
            )
