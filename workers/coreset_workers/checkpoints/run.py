"""The checkpoints of a training run: found, with step, learning rate and architecture, each with its source."""

import itertools
import json
import math
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import open_clip

from coreset.errors import CheckpointUnusable
from coreset.schemas.plan import PlannedCheckpoint, PlannedModel, Sourced
from coreset.spec.job import CheckpointFile, CheckpointsSpec
from coreset.spec.model import ModelSpec
from coreset_workers.checkpoints import files as files
from coreset_workers.data.opening import absolute, names_in, open_file

LARGEST_TEXT = 2**24
"""Bytes of params.txt and open_clip_config.json that are read."""

LR_TOLERANCE = 0.01
"""Share by which the schedule of params.txt may differ from the lr that a checkpoint holds."""


@dataclass(frozen=True)
class Run:
    """A training run: its directory if one was given, params.txt as a dict, the checkpoint files in order."""

    directory: str | None
    params: dict[str, str]
    files: list[CheckpointFile]


def find(spec: CheckpointsSpec) -> Run:
    """Return the run's checkpoint files in training order.

    Raises:
        CheckpointUnusable: there is no such directory, or no checkpoint in it.
    """
    if spec.files is not None:
        found = [file.model_copy(update={"uri": absolute(file.uri)}) for file in spec.files]
        return Run(None, {}, found[-spec.last :] if spec.last else found)
    assert spec.run is not None
    directory = absolute(spec.run.rstrip("/"))
    if posixpath.basename(directory) == "checkpoints":
        directory = posixpath.dirname(directory)
    uris = _epochs(f"{directory}/checkpoints") or _epochs(directory)
    if not uris:
        raise CheckpointUnusable(
            f"{directory} has no checkpoints/epoch_K.pt. Give the run's directory (the one with params.txt), and "
            "train with --save-frequency 1, so that there is more than the last one.",
            uri=directory,
        )
    found = [CheckpointFile(uri=uri) for uri in uris]
    return Run(directory, _params(directory), found[-spec.last :] if spec.last else found)


def _epochs(directory: str) -> list[str]:
    """Return the URIs of epoch_K.pt in natural order; epoch_latest.pt if it is alone."""
    try:
        names = names_in(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    numbered = sorted((int(m[1]), m[0]) for name in names if (m := re.fullmatch(r"epoch_(\d+)(?:\.pt)?", name)))
    if numbered:
        return [f"{directory}/{name}" for _, name in numbered]
    return [f"{directory}/epoch_latest.pt"] if "epoch_latest.pt" in names else []


def _params(directory: str) -> dict[str, str]:
    """Return params.txt as a dict; {} if there is none."""
    try:
        with open_file(f"{directory}/params.txt") as file:
            lines = file.read(LARGEST_TEXT).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    return dict(line.split(": ", 1) for line in lines if ": " in line)


def resolve_model(spec: ModelSpec | None, run: Run) -> PlannedModel:
    """Return the architecture: from the spec, else open_clip_config.json, else the model that params.txt names.

    Raises:
        CheckpointUnusable: none of them tells it.
    """
    saved = _saved_config(run.directory)
    preprocess: dict[str, Any] = dict(saved.get("preprocess_cfg") or {}) | _preprocess_params(run.params)
    name = (spec.name if spec else None) or run.params.get("model")
    if spec is not None and spec.config is not None:
        config, source = dict(spec.config), "spec"
    elif spec is not None and spec.name is not None:
        config, source = registered(spec.name), "spec"
    elif "model_cfg" in saved:
        config, source = saved["model_cfg"], "open_clip_config.json"
    elif name is not None:
        config, source = registered(name), "params.txt"
    else:
        raise CheckpointUnusable(
            "the architecture is not known: there is no params.txt. Give `model` with a name or a config in the spec."
        )
    for option, key in (("force_image_size", "vision_cfg"), ("force_context_length", "text_cfg")):
        value = run.params.get(option, "None")
        if value != "None" and source == "params.txt":
            config[key][option.removeprefix("force_")] = json.loads(value.replace("(", "[").replace(")", "]"))
    if run.params.get("force_quick_gelu") == "True":
        config["quick_gelu"] = True
    if run.params.get("siglip") == "True":
        config.setdefault("init_logit_bias", -10)
    return PlannedModel(
        name=name or "custom",
        config=config,
        source=source,
        preprocess=preprocess,
        preprocess_source="run" if preprocess else "open_clip defaults",
    )


def registered(name: str) -> dict[str, Any]:
    # A colon would make open_clip look for hf-hub: or local-dir:.
    config = None if ":" in name else open_clip.get_model_config(name.replace("/", "-"))
    if config is None:
        raise CheckpointUnusable(
            f"{name} is not an architecture that open_clip knows. Put open_clip_config.json into the run's directory, "
            "or give `model` with a `config` in the spec.",
            model=name,
        )
    return config


def _saved_config(directory: str | None) -> dict[str, Any]:
    if directory is None:
        return {}
    try:
        with open_file(f"{directory}/open_clip_config.json") as file:
            saved = json.loads(file.read(LARGEST_TEXT))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise CheckpointUnusable(f"{directory}/open_clip_config.json is not valid JSON", uri=directory) from error
    if not isinstance(saved, dict):
        raise CheckpointUnusable(f"{directory}/open_clip_config.json holds no JSON object", uri=directory)
    return saved


def _preprocess_params(params: dict[str, str]) -> dict[str, Any]:
    """Return the preprocessing that a run was started with, where it is not the default."""
    found: dict[str, Any] = {}
    for option, key in (("image_mean", "mean"), ("image_std", "std")):
        if params.get(option, "None") != "None":
            found[key] = json.loads(params[option].replace("(", "[").replace(")", "]"))
    for option, key in (("image_interpolation", "interpolation"), ("image_resize_mode", "resize_mode")):
        if params.get(option, "None") != "None":
            found[key] = params[option]
    return found


@dataclass(frozen=True)
class _Seen:
    """One checkpoint's own words, before the schedule is known."""

    file: CheckpointFile
    epoch: int | None
    step: Sourced
    lr: Sourced | None
    optimizer: str | None


def plan_checkpoints(
    spec: CheckpointsSpec, model: ModelSpec | None, progress: Callable[[], object] = lambda: None
) -> tuple[list[PlannedCheckpoint], PlannedModel, list[str]]:
    """Return the checkpoints with step, lr and lr_sum, the architecture, and warnings.

    Raises:
        CheckpointUnusable: a file cannot be used, or its step or lr cannot be found.
    """
    run = find(spec)
    try:
        return _planned(run, model, progress)
    except (ValueError, KeyError, TypeError, OverflowError, ZeroDivisionError, RecursionError) as error:
        raise CheckpointUnusable(
            f"{run.directory or run.files[0].uri}: params.txt, the model's config or the optimizer state of a "
            f"checkpoint holds what cannot be ({type(error).__name__})",
            uri=run.directory or run.files[0].uri,
        ) from error


def _planned(
    run: Run, model: ModelSpec | None, progress: Callable[[], object]
) -> tuple[list[PlannedCheckpoint], PlannedModel, list[str]]:
    planned_model = resolve_model(model, run)
    seen: list[_Seen] = []
    for file in run.files:
        seen.append(_look(file, run.params))
        progress()
    _check_order(seen)
    schedule, warnings = _schedule(run.params, seen)
    planned, before = [], 0
    for index, one in enumerate(seen):
        step = int(one.step.value)
        lr = one.lr or (Sourced(value=schedule(step - 1), source="params.txt") if schedule else None)
        if lr is None:
            raise CheckpointUnusable(
                f"{one.file.uri} tells no learning rate: it holds no optimizer state. "
                "Give `lr` with the file in `checkpoints.files`.",
                uri=one.file.uri,
            )
        size, digest = files.sha256(one.file.uri)
        planned.append(
            PlannedCheckpoint(
                index=index,
                uri=one.file.uri,
                size=size,
                sha256=digest,
                epoch=one.epoch,
                step=one.step,
                lr=lr,
                lr_sum=_lr_sum(schedule, before, step, planned[-1].lr.value if planned else lr.value, lr.value),
                optimizer=one.optimizer,
            )
        )
        before = step
    return planned, planned_model, warnings


def _look(file: CheckpointFile, params: dict[str, str]) -> _Seen:
    loaded = files.look(file.uri)
    lr = files.optimizer_lr(loaded.optimizer)
    if file.lr is not None:
        rate = Sourced(value=file.lr, source="spec")
    else:
        rate = None if lr is None else Sourced(value=lr, source="optimizer state")
    adam = any("exp_avg_sq" in s for s in ((loaded.optimizer or {}).get("state") or {}).values() if isinstance(s, dict))
    return _Seen(file, loaded.epoch, _step(file, loaded, params), rate, "adamw" if adam else None)


def _step(file: CheckpointFile, loaded: files.LoadedCheckpoint, params: dict[str, str]) -> Sourced:
    if file.step is not None:
        return Sourced(value=file.step, source="spec")
    if loaded.global_step is not None:
        return Sourced(value=loaded.global_step, source="global_step")
    step = files.adam_step(loaded.optimizer)
    if step is not None:
        return Sourced(value=step, source="optimizer state")
    per_epoch = _steps_per_epoch(params)
    if per_epoch and loaded.epoch:
        return Sourced(value=loaded.epoch * per_epoch, source="params.txt")
    raise CheckpointUnusable(
        f"{file.uri} tells no step: it holds neither global_step nor optimizer state. Released weights are like that. "
        "Give `step` and `lr` with the file in `checkpoints.files`.",
        uri=file.uri,
    )


def _steps_per_epoch(params: dict[str, str]) -> int | None:
    """Return open_clip's steps an epoch, where params.txt tells the number of samples."""
    if params.get("train_num_samples", "None") == "None":
        return None
    total, batch = int(params["train_num_samples"]), int(params["batch_size"]) * int(params.get("world_size", 1))
    workers = max(1, int(params.get("workers", 1)))
    batches = math.ceil(math.ceil(total / batch) / workers) * workers
    return batches // int(params.get("accum_freq", 1))


def _check_order(seen: list[_Seen]) -> None:
    for before, after in itertools.pairwise(seen):
        if after.step.value <= before.step.value:
            raise CheckpointUnusable(
                f"{after.file.uri} (step {after.step.value:.0f}) does not come after {before.file.uri} "
                f"(step {before.step.value:.0f}). Give the checkpoints of one run, in training order.",
                uri=after.file.uri,
            )


Schedule = Callable[[int], float]
"""lr of the 0-based step s."""


def schedule_from(params: dict[str, str], total_steps: int) -> Schedule | None:
    """Return open_clip's learning rate schedule, or None if params.txt does not tell it."""
    if "lr" not in params or "warmup" not in params:
        return None
    base, warmup = float(params["lr"]), int(params["warmup"])
    kind = "const" if params.get("skip_scheduler") == "True" else params.get("lr_scheduler", "cosine")
    if params.get("skip_scheduler") == "True":
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


def _schedule(params: dict[str, str], seen: list[_Seen]) -> tuple[Schedule | None, list[str]]:
    """Return the run's schedule if it agrees with the learning rates that the checkpoints hold."""
    last = seen[-1]
    if "epochs" not in params:
        return None, []
    per_epoch = last.step.value / last.epoch if last.epoch else (_steps_per_epoch(params) or 0)
    schedule = schedule_from(params, round(per_epoch * int(params["epochs"]))) if per_epoch else None
    if schedule is None:
        return None, []
    base = float(params["lr"])
    for one in seen:
        if one.lr is None or one.lr.source == "spec":
            continue
        expected = schedule(int(one.step.value) - 1)
        if abs(expected - one.lr.value) > LR_TOLERANCE * base:
            return None, [
                f"{one.file.uri} holds lr {one.lr.value:.3g}, params.txt says {expected:.3g} for its step: "
                "the learning rates between checkpoints are interpolated"
            ]
    return schedule, []


def _lr_sum(schedule: Schedule | None, before: int, step: int, lr_before: float, lr: float) -> Sourced:
    """Return the sum of the learning rates of the steps before+1 .. step."""
    if schedule is not None:
        return Sourced(value=math.fsum(schedule(s) for s in range(before, step)), source="params.txt")
    return Sourced(value=(step - before) * (lr_before + lr) / 2, source="interpolated")
