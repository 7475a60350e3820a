"""Calibration of a plan's checkpoints at the first precision that passes the accuracy gate."""

import time
from dataclasses import dataclass, replace

import structlog
import torch
from torch import Tensor

from coreset.errors import AccuracyNotMet
from coreset.schemas.plan import Plan
from coreset.spec.scores import Score
from coreset_workers.influence.passes import needs_centre
from coreset_workers.influence.self_influence import frame, own_factor
from coreset_workers.influence.trace import Drawn, Progress, Traced, trace
from coreset_workers.model.clip import ClipModel
from coreset_workers.model.precision import PRECISIONS, Precision, ladder
from diffin.accuracy import Agreement, agreement
from diffin.prepare import Checkpoint, Prepared, Problem, prepare, total
from diffin.samples import ContrastiveLosses
from diffin.self_influence import named, own_slopes
from diffin.stencil import CENTRE, Stencil, merge

SPEARMAN, WORST_ERROR = 0.99, 0.02
"""Accuracy gate: the lowest Spearman correlation and the largest relative error of a score on the probes."""


@dataclass(frozen=True)
class CalibratedCheckpoint:
    """A checkpoint with its stencil, and its samples' losses in the precision of the scoring passes."""

    theta: Tensor
    samples: ContrastiveLosses
    prepared: Prepared


@dataclass(frozen=True)
class Calibration:
    """The outcome of calibrating a plan.

    Attributes:
        precision: name of the first precision that passed the gate.
        accuracy: by estimator, the agreement with the exact derivatives on the probes.
        warnings: why lower precisions failed, and what the gate could not measure.
        seconds: time that each precision took.
    """

    precision: str
    traced: Traced
    checkpoints: list[CalibratedCheckpoint]
    accuracy: dict[str, Agreement]
    warnings: list[str]
    seconds: dict[str, float]


def calibrate(plan: Plan, drawn: Drawn, device: torch.device, progress: Progress) -> Calibration:
    """Raise the precision until the scores of the probes agree with the exact ones.

    Raises:
        AccuracyNotMet: no precision passes the gate.
    """
    failed: dict[str, dict[str, Agreement]] = {}
    seconds: dict[str, float] = {}
    traced = None
    for name in ladder(device, plan.scores):
        started, precision = time.monotonic(), PRECISIONS[name]
        with precision.kernels():
            if traced is None or traced.dtype != precision.traced:
                traced = trace(plan, drawn, device, precision.traced, progress)
            checkpoints = calibrate_checkpoints(plan, traced, precision, progress)
        seconds[name] = time.monotonic() - started
        accuracy = _accuracy(checkpoints)
        structlog.get_logger().info("accuracy", precision=name, **{score: vars(a) for score, a in accuracy.items()})
        if all(a.passes(SPEARMAN, WORST_ERROR) for a in accuracy.values()):
            warnings = [f"{low} is not exact enough: {_failures(a)}" for low, a in failed.items()]
            warnings += _unmeasured(accuracy, len(drawn.probes))
            return Calibration(name, traced, checkpoints, accuracy, warnings, seconds)
        failed[name] = accuracy
    raise AccuracyNotMet(
        "the scores do not agree with the exact ones in any precision. "
        f"{' '.join(f'{name}: {_failures(accuracy)}.' for name, accuracy in failed.items())} Expected a Spearman "
        f"correlation of at least {SPEARMAN} and an error of at most {WORST_ERROR}. Remove the estimators that fail "
        "from `scores`.",
        accuracy={name: {score: vars(a) for score, a in accuracy.items()} for name, accuracy in failed.items()},
    )


def calibrate_checkpoints(
    plan: Plan, traced: Traced, precision: Precision, progress: Progress
) -> list[CalibratedCheckpoint]:
    """Return the checkpoints with their stencils; the samples' losses are in the precision of the scoring passes."""
    problem = replace(traced.problem, slopes=precision.slopes)
    model = traced.model
    if precision.dtype != traced.dtype:
        model = ClipModel.build(plan.model, model.device, precision.dtype, plan.parameters)
    vectors = frame(plan, model.layout.size, model.device) if Score.SELF_INFLUENCE in plan.scores else None
    calibrated: list[CalibratedCheckpoint] = []
    for index, checkpoint in enumerate(traced.checkpoints):
        share = index / len(traced.checkpoints)
        progress(f"calibrating checkpoint {index + 1} of {len(traced.checkpoints)}", 0.8 + 0.2 * share)
        samples = ContrastiveLosses(model.encoder(traced.fixed[index]), traced.reference, model.kind)
        checkpoint = replace(checkpoint, samples=samples)
        prepared = _prepared(problem, checkpoint, traced, plan, index)
        if vectors is not None:
            prepared = _with_own_slopes(prepared, problem, checkpoint, plan, vectors)
        calibrated.append(CalibratedCheckpoint(checkpoint.segment.theta, samples, prepared))
    return calibrated


def _prepared(problem: Problem, checkpoint: Checkpoint, traced: Traced, plan: Plan, index: int) -> Prepared:
    horizon = traced.horizon.checkpoint
    assert horizon is not None
    centre = needs_centre(plan, index, horizon)
    if problem.estimators and index <= horizon:
        return prepare(problem, checkpoint, traced.directions[index], horizon + 1, centre)
    return Prepared({}, Stencil((CENTRE,) if centre else (), {}), {}, {}, {})


def _with_own_slopes(
    prepared: Prepared, problem: Problem, checkpoint: Checkpoint, plan: Plan, vectors: Tensor
) -> Prepared:
    """Add the slopes along the vectors (K, p) of self-influence, and their accuracy on the probes."""
    own = own_slopes(problem, checkpoint, vectors)
    factor, name = own_factor(plan, checkpoint.lr), Score.SELF_INFLUENCE.value
    return replace(
        prepared,
        directions=prepared.directions | named(vectors),
        stencil=merge([prepared.stencil, own.stencil]),
        steps=prepared.steps | ({name: own.steps} if own.steps else {}),
        fast=prepared.fast | {name: factor * own.fast},
        exact=prepared.exact | {name: factor * own.exact},
    )


def _accuracy(checkpoints: list[CalibratedCheckpoint]) -> dict[str, Agreement]:
    if not checkpoints[0].prepared.fast:
        return {}
    fast, exact = (total([getattr(one.prepared, kind) for one in checkpoints]) for kind in ("fast", "exact"))
    return {name: agreement(fast[name], exact[name]) for name in fast}


def _failures(accuracy: dict[str, Agreement]) -> str:
    """Return the figures of the estimators that fail the gate."""
    return "; ".join(
        f"{score} has Spearman {'none' if a.spearman is None else f'{a.spearman:.3f}'}, cosine {a.cosine:.3f}, worst "
        f"relative error {a.worst_relative_error:.2g} on {a.samples} samples"
        for score, a in accuracy.items()
        if not a.passes(SPEARMAN, WORST_ERROR)
    )


def _unmeasured(accuracy: dict[str, Agreement], probes: int) -> list[str]:
    """Return warnings about probes that the gate could not use and scores that do not vary."""
    warnings: list[str] = []
    for score, found in accuracy.items():
        if found.samples < probes:
            warnings.append(
                f"{score}: {probes - found.samples} of the {probes} samples that accuracy is measured on have no "
                "finite exact score and were left out"
            )
        if found.spearman is None:
            warnings.append(
                f"{score} is one and the same number for the {found.samples} samples that accuracy is measured on: "
                "it ranks nothing there"
            )
    return warnings
