"""Prepare a plan: draw B, find the directions, calibrate the steps, measure the accuracy, and store it all."""

import time
from dataclasses import dataclass, replace

import structlog
import torch
from torch import Tensor

from coreset.errors import AccuracyNotMet
from coreset.schemas.manifest import Accuracy, Steps
from coreset.schemas.plan import Plan
from coreset.spec.scores import Score
from coreset.storage.storage import Storage
from coreset.storage.target_clusters import save_target_clusters
from coreset_workers.data.decode import Sample
from coreset_workers.data.loader import Loader
from coreset_workers.influence import prepared_files as prepared
from coreset_workers.influence.clusters import nearest, store_centroids
from coreset_workers.influence.self_influence import frame, own_factor
from coreset_workers.influence.trace import Drawn, Progress, Traced, draw_samples, trace
from coreset_workers.model.clip import ClipModel
from coreset_workers.model.inputs import CLIP, RUN, load_clip_weights, pairs_of_samples
from coreset_workers.model.precision import PRECISIONS, Precision, ladder
from diffin.accuracy import Agreement, agreement
from diffin.contrastive import Encoded, Pairs
from diffin.prepare import Checkpoint, Directions, Prepared, Problem, prepare, total
from diffin.samples import ContrastiveLosses
from diffin.self_influence import SIGN, named, own_slopes
from diffin.stencil import CENTRE, Stencil, merge, move

SPEARMAN, WORST_ERROR = 0.99, 0.02
"""The accuracy gate: below it the precision is raised once, then the job fails."""


def prepare_plan(plan: Plan, storage: Storage, loader: Loader, device: torch.device, progress: Progress) -> None:
    """Prepare the plan at the first precision that passes the accuracy gate, unless it is prepared already.

    Raises:
        InvalidInput: the pool or a checkpoint cannot be used.
    """
    if prepared.load_preparation(storage, plan) is not None:
        return
    started = time.monotonic()
    drawn = draw_samples(plan, loader, progress)
    embedded = _store_reference(plan, storage, drawn, device)
    seconds = {"draw": time.monotonic() - started}
    precision, traced, outcomes, raised = _accurate(plan, drawn, device, progress, seconds)
    for index, outcome in enumerate(outcomes):
        _store_checkpoint(storage, plan, index, outcome)
    clusters: list[str] = []
    if plan.clusters:
        clusters = _store_clusters(plan, storage, embedded or outcomes[-1].embedded(drawn.target))
    found = _accuracies(outcomes)
    prepared.save_preparation(
        storage,
        plan,
        prepared.Preparation(
            precision=precision,
            accuracy={Score(name): Accuracy(**vars(agreed)) for name, agreed in found.items()},
            reference_uids=[sample.uid for sample in drawn.reference],
            parameters_counted=traced.model.layout.size,
            parameters_total=sum(shape.numel() for shape in traced.model.shapes.values()),
            warnings=drawn.warnings + traced.warnings + raised + clusters + _doubts(found, len(drawn.probes)),
            steps=[{Score(n): Steps(**vars(s)) for n, s in outcome.prepared.steps.items()} for outcome in outcomes],
            seconds=seconds,
        ),
    )


@dataclass(frozen=True)
class _Embedded:
    """The embeddings of B, and of V if it is given, by the model that makes CLIP score."""

    reference: Encoded
    target: Encoded | None


def _embedded(samples: ContrastiveLosses, theta: Tensor, target: Pairs | None) -> _Embedded:
    with torch.no_grad():
        of_target = None if target is None else replace(samples, reference=target).context(theta)
        return _Embedded(samples.context(theta), of_target)


def _pairs(target: list[Sample] | None, view: str, device: torch.device) -> Pairs | None:
    return None if target is None else pairs_of_samples(target, view).to(device)


@dataclass(frozen=True)
class _Outcome:
    """A checkpoint that is prepared, and its samples' losses in the precision of the scoring passes."""

    theta: Tensor
    samples: ContrastiveLosses
    prepared: Prepared

    def embedded(self, target: list[Sample] | None) -> _Embedded:
        return _embedded(self.samples, self.theta, _pairs(target, RUN, self.theta.device))


def _accurate(
    plan: Plan, drawn: Drawn, device: torch.device, progress: Progress, seconds: dict[str, float]
) -> tuple[str, Traced, list[_Outcome], list[str]]:
    """Climb the ladder of precisions to the first that passes the accuracy gate; say why the others do not.

    Args:
        seconds: gets the time that each took.

    Raises:
        AccuracyNotMet: none does.
    """
    failed: dict[str, dict[str, Agreement]] = {}
    traced = None
    for name in ladder(device, plan.scores):
        started, precision = time.monotonic(), PRECISIONS[name]
        with precision.kernels():
            if traced is None or traced.dtype != precision.traced:
                traced = trace(plan, drawn, device, precision.traced, progress)
            outcomes = _prepared(plan, traced, precision, progress)
        seconds[name] = time.monotonic() - started
        found = _accuracies(outcomes)
        structlog.get_logger().info("accuracy", precision=name, **{score: vars(a) for score, a in found.items()})
        if all(a.passes(SPEARMAN, WORST_ERROR) for a in found.values()):
            return name, traced, outcomes, [f"{low} is not exact enough: {_words(a)}" for low, a in failed.items()]
        failed[name] = found
    raise AccuracyNotMet(
        "the fast path does not agree with the exact one in any precision. "
        f"{' '.join(f'{name}: {_words(found)}.' for name, found in failed.items())} Wanted are Spearman {SPEARMAN} "
        f"at least and an error of {WORST_ERROR} at most. Leave the estimators that fail out of `scores`.",
        accuracy={name: {score: vars(a) for score, a in found.items()} for name, found in failed.items()},
    )


def _words(accuracy: dict[str, Agreement]) -> str:
    """Return the figures of the estimators that fail the gate."""
    return "; ".join(
        f"{score} has Spearman {'none' if a.spearman is None else f'{a.spearman:.3f}'}, cosine {a.cosine:.3f}, worst "
        f"relative error {a.worst_relative_error:.2g} on {a.samples} samples"
        for score, a in accuracy.items()
        if not a.passes(SPEARMAN, WORST_ERROR)
    )


def _doubts(accuracy: dict[str, Agreement], probes: int) -> list[str]:
    """Return where the gate says less than it seems to."""
    doubts: list[str] = []
    for score, found in accuracy.items():
        if found.samples < probes:
            doubts.append(
                f"{score}: {probes - found.samples} of the {probes} samples that accuracy is measured on have no "
                "finite exact score and were left out"
            )
        if found.spearman is None:
            doubts.append(
                f"{score} is one and the same number for the {found.samples} samples that accuracy is measured on: "
                "it ranks nothing there"
            )
    return doubts


def _prepared(plan: Plan, traced: Traced, precision: Precision, progress: Progress) -> list[_Outcome]:
    """Return each checkpoint, with its samples' losses in the precision of the scoring passes, and its stencil."""
    problem = replace(traced.problem, slopes=precision.slopes)
    model = traced.model
    if precision.dtype != traced.dtype:
        model = ClipModel.build(plan.model, model.device, precision.dtype, plan.parameters)
    own = frame(plan, model.layout.size, model.device) if Score.SELF_INFLUENCE in plan.scores else None
    outcomes: list[_Outcome] = []
    for index, checkpoint in enumerate(traced.checkpoints):
        share = index / len(traced.checkpoints)
        progress(f"calibrating checkpoint {index + 1} of {len(traced.checkpoints)}", 0.8 + 0.2 * share)
        samples = ContrastiveLosses(model.encoder(traced.fixed[index]), traced.reference, model.kind)
        checkpoint = replace(checkpoint, samples=samples)
        found = _calibrated(problem, checkpoint, traced.directions[index], plan, index)
        if own is not None:
            found = _with_own_slopes(found, problem, checkpoint, plan, own)
        outcomes.append(_Outcome(checkpoint.segment.theta, samples, found))
    return outcomes


def _store_reference(plan: Plan, storage: Storage, drawn: Drawn, device: torch.device) -> _Embedded | None:
    """Store who is in B, and under the CLIP-score model, if that is another one, B's embeddings; return B's and V's."""
    embedded = None
    pairs = pairs_of_samples(drawn.reference, RUN)
    tensors = {"ids": pairs.ids, "captions": pairs.captions}
    if plan.clip_model is not None:
        model = ClipModel.build(plan.clip_model, device)
        weights = load_clip_weights(plan, model)
        reference = pairs_of_samples(drawn.reference, CLIP).to(device)
        samples = ContrastiveLosses(model.encoder(weights.fixed), reference, model.kind)
        embedded = _embedded(samples, weights.theta, _pairs(drawn.target, CLIP, device))
        tensors |= {f"clip/{name}": value for name, value in vars(embedded.reference).items()}
    prepared.save_tensors(storage, plan, "reference", tensors)
    return embedded


def _store_clusters(plan: Plan, storage: Storage, embedded: _Embedded) -> list[str]:
    """Store the clusters of B's images, and how many of V's each has; say so if they are too few."""
    centroids = store_centroids(storage, plan, embedded.reference.image)
    made = len(centroids)
    if embedded.target is not None:
        members = nearest(embedded.target.image.cpu(), centroids).bincount(minlength=made)
        save_target_clusters(storage, plan, members.tolist())
    short = f"wanted {plan.clusters} clusters, made {made}: the reference batch has no more different images"
    return [short] if made < plan.clusters else []


def _calibrated(problem: Problem, checkpoint: Checkpoint, directions: Directions, plan: Plan, index: int) -> Prepared:
    centre = needs_centre(plan, index)
    if problem.estimators:
        return prepare(problem, checkpoint, directions, len(plan.checkpoints), centre)
    return Prepared({}, Stencil((CENTRE,) if centre else (), {}), {}, {}, {})


def _with_own_slopes(
    found: Prepared, problem: Problem, checkpoint: Checkpoint, plan: Plan, vectors: Tensor
) -> Prepared:
    """Add the slopes along the vectors (K, p) that self-influence is made of, and how exact it is on the probes."""
    own = own_slopes(problem, checkpoint, vectors)
    factor, name = own_factor(plan, checkpoint.lr), Score.SELF_INFLUENCE.value
    return replace(
        found,
        directions=found.directions | named(vectors),
        stencil=merge([found.stencil, own.stencil]),
        steps=found.steps | ({name: own.steps} if own.steps else {}),
        fast=found.fast | {name: factor * own.fast},
        exact=found.exact | {name: factor * own.exact},
    )


def needs_centre(plan: Plan, index: int) -> bool:
    """Return whether the losses or embeddings at the checkpoint itself are wanted."""
    last = index == len(plan.checkpoints) - 1
    clip_scores = {Score.CLIP_SCORE, Score.NEG_CLIP_LOSS} & set(plan.scores)
    return Score.LOSS in plan.scores or (last and bool(clip_scores) and plan.clip_model is None)


def _store_checkpoint(storage: Storage, plan: Plan, index: int, outcome: _Outcome) -> None:
    """Store the outcome. Vectors of signs are not stored: whoever needs them draws them again."""
    stencil, samples, theta = outcome.prepared.stencil, outcome.samples, outcome.theta
    directions = {name: value for name, value in outcome.prepared.directions.items() if name in stencil.directions}
    with torch.no_grad():
        contexts = [samples.context(move(theta, point, directions)) for point in stencil.points]
        slopes = {name: samples.context_along(theta, directions[name].to(theta)) for name in stencil.slopes}
    stored = {name: value for name, value in directions.items() if not name.startswith(SIGN)}
    ready = prepared.PreparedCheckpoint(stencil, stored, contexts, slopes)
    prepared.save_checkpoint(storage, plan, index, ready)


def _accuracies(outcomes: list[_Outcome]) -> dict[str, Agreement]:
    if not outcomes[0].prepared.fast:
        return {}
    fast, exact = (total([getattr(outcome.prepared, kind) for outcome in outcomes]) for kind in ("fast", "exact"))
    return {name: agreement(fast[name], exact[name]) for name in fast}
