"""The weights of a training with the influence of some samples removed, as a checkpoint.

The training is traced as a scoring job traces it, in this process, without a queue or a service; then the recursion is
run forwards for the set of samples (diffin/parameter_influence.py).
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from coreset.errors import InvalidInput, InvalidSpec, PoolUnusable
from coreset.schemas.plan import Plan
from coreset.spec.job import JobSpec
from coreset.spec.scores import Score
from coreset_workers.checkpoints import files as checkpoint_files
from coreset_workers.data.decode import Sample
from coreset_workers.data.loader import Loader
from coreset_workers.data.named import read_named
from coreset_workers.influence.finite import not_finite, require_finite
from coreset_workers.influence.trace import Traced, draw_samples, trace
from coreset_workers.model.device import compute_device
from coreset_workers.model.inputs import RUN, pairs_of_samples, views
from coreset_workers.stages.plan import make_plan
from diffin.adjoint import NonFinite
from diffin.contrastive import Pairs
from diffin.parameter_influence import ContrastiveSetLoss, parameter_influence
from diffin.prepare import Checkpoint
from diffin.samples import ContrastiveLosses

BATCH = 64
"""Number of samples of the set whose graphs are in memory at once."""

ReportStage = Callable[[str, float], None]


@dataclass(frozen=True)
class Forgotten:
    """What was done.

    Attributes:
        removed: samples whose influence was removed.
        n_samples: N.
        moved, norm: Euclidean lengths of the change and of the parameters that are counted.
        set_loss, reference_loss: mean l_z over the set and over B, before and after.
    """

    removed: int
    n_samples: float
    moved: float
    norm: float
    set_loss: tuple[float, float]
    reference_loss: tuple[float, float]
    warnings: list[str]


def forget(
    spec: JobSpec, uids: Sequence[str], out: Path, report_stage: ReportStage, loader_processes: int
) -> Forgotten:
    """Write the run's last checkpoint with the influence of the named samples removed.

    Raises:
        InvalidInput: the output cannot be written there, or a shard, a checkpoint or a uid cannot be used.
    """
    _check_writable(out)
    if spec.checkpoints is None:
        raise InvalidSpec(
            "forgetting needs the training run that saw the samples: give `checkpoints`", field="checkpoints"
        )
    report_stage("reading shards and checkpoints", 0.0)
    # The directions of the estimators are not wanted: without a score that has one, none is computed.
    plan, warnings = make_plan(spec.model_copy(update={"scores": [Score.LOSS], "target": "training"}))
    loader = Loader(views(plan), plan.caption_field, loader_processes)
    try:
        samples, bad = read_named(
            plan.shards, uids, loader, lambda share: report_stage("reading the samples", 0.1 * share)
        )
        if not samples:
            raise PoolUnusable("all of these samples are bad ones, which no training has seen")
        drawn = draw_samples(plan, loader, report_stage)
    finally:
        loader.close()
    if bad:
        warnings.append(f"{len(bad)} of the samples are bad ones, which no training has seen; they are left out")
    device = compute_device()
    traced = trace(plan, drawn, device, torch.float32, report_stage)
    removed = _Batches(samples, device)
    influence = _influence(traced, removed, plan, report_stage)
    last = traced.checkpoints[-1]
    theta = last.segment.theta
    require_finite(float(influence.norm()), "the influence of the set", plan.checkpoints[-1].uri)
    report_stage("writing the checkpoint", 0.95)
    _write(out, plan, traced, theta + influence)
    return Forgotten(
        len(samples),
        plan.n_samples.value,
        float(influence.norm()),
        float(theta.norm()),
        _before_and_after(last, removed, influence),
        _before_and_after(last, _Batches(drawn.reference, device), influence),
        warnings + drawn.warnings + traced.warnings,
    )


def _check_writable(out: Path) -> None:
    if not out.absolute().parent.is_dir():
        raise InvalidInput(f"{out} cannot be written: there is no folder {out.absolute().parent}")
    if out.exists():
        raise InvalidInput(f"{out} is there already; give another name")


@dataclass(frozen=True)
class _Batches:
    """Samples as pairs on a device, a batch at a time."""

    samples: Sequence[Sample]
    device: torch.device

    def __iter__(self) -> Iterator[Pairs]:
        for start in range(0, len(self.samples), BATCH):
            yield pairs_of_samples(self.samples[start : start + BATCH], RUN).to(self.device)


def _influence(traced: Traced, removed: _Batches, plan: Plan, report_stage: ReportStage) -> Tensor:
    model, n_samples = traced.model, plan.n_samples.value
    towers = [ContrastiveLosses(model.encoder(fixed), traced.reference, model.kind) for fixed in traced.fixed]
    try:
        return parameter_influence(
            [checkpoint.segment for checkpoint in traced.checkpoints],
            [ContrastiveSetLoss(losses, removed, n_samples) for losses in towers],
            progress=lambda share: report_stage(
                "following the samples' influence through training", 0.2 + 0.75 * share
            ),
        )
    except NonFinite as error:
        raise not_finite(f"{error.what} on the way through training", plan.checkpoints[-1].uri) from error


def _before_and_after(last: Checkpoint, batches: _Batches, influence: Tensor) -> tuple[float, float]:
    theta = last.segment.theta
    return _mean_loss(last, batches, theta), _mean_loss(last, batches, theta + influence)


def _mean_loss(last: Checkpoint, batches: _Batches, theta: Tensor) -> float:
    with torch.no_grad():
        context = last.samples.context(theta)
        return float(torch.cat([last.samples.losses(theta, context, batch) for batch in batches]).mean())


def _write(out: Path, plan: Plan, traced: Traced, theta: Tensor) -> None:
    """Write the last checkpoint with the counted parameters replaced, in open_clip's format, without optimizer."""
    loaded = checkpoint_files.load(plan.checkpoints[-1].uri)
    changed = traced.model.layout.unflatten(theta.cpu())
    state_dict = loaded.state_dict | {n: v.to(loaded.state_dict[n].dtype).clone() for n, v in changed.items()}
    content = {"epoch": loaded.epoch or 0, "name": out.stem, "state_dict": state_dict}
    partial = out.with_name(f".{out.name}.partial")
    try:
        torch.save(content, partial)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
