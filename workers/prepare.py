"""Prepare a plan: draw B, find the directions, calibrate the steps, measure the accuracy, and store it all."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import structlog
import torch
from torch import Tensor

from coreset.errors import PoolUnusable
from coreset.plan import Plan, PlannedCheckpoint
from coreset.result import Accuracy
from coreset.scores import ESTIMATORS, Score
from coreset.storage import Storage
from diffin.accuracy import Agreement, agreement
from diffin.adjoint import Segment
from diffin.batch_loss import ContrastiveLoss
from diffin.contrastive import Pairs
from diffin.prepare import (
    Checkpoint,
    Prepared,
    Problem,
    influence_directions,
    local_directions,
    prepare,
    total,
)
from diffin.samples import ContrastiveLosses
from diffin.stencil import CENTRE, Stencil, move
from workers import checkpoint_files, prepared
from workers.clip_model import ClipModel
from workers.pairs import CLIP, RUN, load_clip_weights, pairs_of_samples
from workers.planning import require_finite
from workers.samples.decode import Sample
from workers.samples.loader import Loader
from workers.samples.reference import draw

PROBES = 32
"""Samples on which steps are calibrated and the accuracy is measured."""

MINIBATCHES = 5
"""For each segment of the training: more follow it a little better, and cost as much more."""

LARGEST_MINIBATCH = 256
"""Else they have B's size; smaller ones than 64 followed training less well."""

SPEARMAN, WORST_ERROR = 0.99, 0.02
"""The accuracy gate: below it the precision is raised once, then the job fails."""

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Drawn:
    """The samples that a plan's scores are about: B, the probes, what minibatches are drawn from, and V if given."""

    reference: list[Sample]
    probes: list[Sample]
    minibatches: list[Sample]
    target: list[Sample] | None
    warnings: list[str]


def draw_samples(plan: Plan, loader: Loader, progress: Progress) -> Drawn:
    progress("drawing the reference batch", 0.1)
    wanted = plan.reference_size + PROBES
    for_minibatches = min(MINIBATCHES * minibatch_size(plan), int(plan.n_samples.value))
    samples, short = draw(plan.shards, max(wanted, for_minibatches), plan.reference_seed, loader)
    size = min(plan.reference_size, max(len(samples) - PROBES, len(samples) // 2))
    warnings = [short] if short and len(samples) < wanted else []
    target = None
    if not isinstance(plan.target, str):
        progress("drawing the validation samples", 0.15)
        target, few = draw(plan.target_shards, plan.target.size, plan.reference_seed, loader)
        warnings += [f"validation pool: {few}"] if few else []
    return Drawn(samples[:size], samples[size : size + PROBES], samples, target, warnings)


def minibatch_size(plan: Plan) -> int:
    """Return how many samples a minibatch has whose Hessian stands for those of some training steps."""
    return min(plan.reference_size, LARGEST_MINIBATCH)


def prepare_plan(plan: Plan, storage: Storage, loader: Loader, device: torch.device, progress: Progress) -> None:
    """Prepare the plan at the first precision that passes the accuracy gate, unless it is prepared already.

    Raises:
        InvalidInput: the pool or a checkpoint cannot be used.
    """
    if prepared.load_preparation(storage, plan) is not None:
        return
    started = time.monotonic()
    drawn = draw_samples(plan, loader, progress)
    _store_reference(plan, storage, drawn, device)
    seconds = {"draw": time.monotonic() - started}
    precision, attempt = _accurate_attempt(plan, storage, drawn, device, progress, seconds)
    prepared.save_preparation(
        storage,
        plan,
        prepared.Preparation(
            precision=precision,
            accuracy={Score(name): Accuracy(**vars(found)) for name, found in attempt.accuracy.items()},
            reference_uids=[sample.uid for sample in drawn.reference],
            parameters_counted=attempt.parameters_counted,
            parameters_total=attempt.parameters_total,
            warnings=drawn.warnings + attempt.warnings,
            steps=attempt.steps,
            seconds=seconds,
        ),
    )


def _accurate_attempt(
    plan: Plan,
    storage: Storage,
    drawn: Drawn,
    device: torch.device,
    progress: Progress,
    seconds: dict[str, float],
) -> tuple[str, "_Attempt"]:
    """Return the first precision that passes the accuracy gate, and what was prepared at it.

    Raises:
        PoolUnusable: none does.
    """
    words = ""
    for precision, dtype in PRECISIONS.items():
        started = time.monotonic()
        attempt = _attempt(plan, storage, drawn, device, dtype, progress)
        seconds[precision] = time.monotonic() - started
        found = attempt.accuracy
        structlog.get_logger().info("accuracy", precision=precision, **{name: vars(a) for name, a in found.items()})
        if all(a.passes(SPEARMAN, WORST_ERROR) for a in found.values()):
            return precision, attempt
        words = ", ".join(
            f"{name}: Spearman {a.spearman:.3f}, worst error {a.worst_relative_error:.2g}" for name, a in found.items()
        )
    raise PoolUnusable(f"the fast path does not agree with the exact one, in float64 either ({words})")


def _store_reference(plan: Plan, storage: Storage, drawn: Drawn, device: torch.device) -> None:
    """Store who is in B, and B's embeddings under the CLIP-score model if that is another one."""
    pairs = pairs_of_samples(drawn.reference, RUN)
    tensors = {"ids": pairs.ids, "captions": pairs.captions}
    if plan.clip_model is not None:
        model = ClipModel.build(plan.clip_model, device)
        weights = load_clip_weights(plan, model)
        reference = pairs_of_samples(drawn.reference, CLIP).to(device)
        with torch.no_grad():
            encoder = model.encoder(weights.fixed)
            encoded = ContrastiveLosses(encoder, reference, model.kind).context(weights.theta)
        tensors |= {f"clip/{name}": value for name, value in vars(encoded).items()}
    prepared.save_tensors(storage, plan, "reference", tensors)


@dataclass(frozen=True)
class _Attempt:
    accuracy: dict[str, Agreement]
    steps: list[dict[str, float]]
    parameters_counted: int
    parameters_total: int
    warnings: list[str]


def _attempt(
    plan: Plan, storage: Storage, drawn: Drawn, device: torch.device, dtype: torch.dtype, progress: Progress
) -> _Attempt:
    model, model64 = (ClipModel.build(plan.model, device, d, plan.parameters) for d in (dtype, torch.float64))
    probes = pairs_of_samples(drawn.probes, RUN).to(device)
    estimators = tuple(score.value for score in ESTIMATORS if score in plan.scores)
    problem = Problem(
        probes=probes,
        probes64=probes,
        estimators=estimators,
        n_samples=plan.n_samples.value,
    )
    samples = pairs_of_samples(drawn.minibatches, RUN)
    checkpoints = [_checkpoint(plan, planned, model, model64, drawn, samples) for planned in plan.checkpoints]
    influence = influence_directions(
        problem,
        checkpoints,
        lambda share: progress("tracing the target's gradient back through training", 0.2 + 0.6 * share),
    )
    outcomes = []
    for index, checkpoint in enumerate(checkpoints):
        progress(f"calibrating checkpoint {index + 1} of {len(checkpoints)}", 0.8 + 0.2 * index / len(checkpoints))
        directions = local_directions(problem, checkpoint)
        if influence is not None:
            directions["influence"] = influence[index]
        for name, direction in directions.items():
            require_finite(float(direction.norm()), f"the {name} direction", plan.checkpoints[index].uri)
        outcome = _calibrated(problem, checkpoint, directions, plan, index)
        _store_checkpoint(storage, plan, index, outcome, checkpoint)
        outcomes.append(outcome)
    return _Attempt(
        _accuracies(outcomes),
        [{name: c.step for name, c in outcome.calibrations.items()} for outcome in outcomes],
        model.layout.size,
        sum(shape.numel() for shape in model.shapes.values()),
        [
            f"{planned.uri} holds Adam's state in an order of parameters that is not known: diffin takes P = 1 there"
            for planned, checkpoint in zip(plan.checkpoints, checkpoints, strict=True)
            if planned.optimizer and checkpoint.segment.preconditioner is None
        ],
    )


def _checkpoint(
    plan: Plan, planned: PlannedCheckpoint, model: ClipModel, model64: ClipModel, drawn: Drawn, samples: Pairs
) -> Checkpoint:
    loaded = checkpoint_files.load(planned.uri)
    weights, weights64 = (m.weights(loaded.state_dict, planned.uri) for m in (model, model64))
    require_finite(float(weights.theta.norm()), "the norm of the parameters", planned.uri)
    encode, encode64 = model.encoder(weights.fixed), model64.encoder(weights64.fixed)
    by_name = checkpoint_files.adam_preconditioner(loaded.optimizer, model.shapes) if planned.optimizer else None
    preconditioner = None if by_name is None else model.layout.flatten(by_name).to(weights.theta)

    def loss(pairs: Pairs) -> ContrastiveLoss:
        return ContrastiveLoss(encode, pairs.to(model.device), model.kind)

    reference = pairs_of_samples(drawn.reference, RUN).to(model.device)
    minibatches = [_Minibatch(samples, chosen, loss) for chosen in _choices(plan, planned.index, len(samples))]
    return Checkpoint(
        Segment(weights.theta, planned.lr_sum.value, minibatches, preconditioner),
        planned.step.value,
        planned.lr.value,
        loss(reference),
        None if drawn.target is None else loss(pairs_of_samples(drawn.target, RUN)),
        ContrastiveLosses(encode, reference, model.kind),
        ContrastiveLosses(encode64, reference, model.kind),
    )


@dataclass(frozen=True)
class _Minibatch:
    """The loss of some of the samples, whose tensors are put together when they are asked for."""

    samples: Pairs
    chosen: Tensor
    loss: Callable[[Pairs], ContrastiveLoss]

    def gradient(self, theta: Tensor) -> Tensor:
        return self.loss(self.samples[self.chosen]).gradient(theta)

    def hvp(self, theta: Tensor, direction: Tensor) -> Tensor:
        return self.loss(self.samples[self.chosen]).hvp(theta, direction)


def _choices(plan: Plan, index: int, samples: int) -> list[Tensor]:
    """Return who is in the minibatches of a checkpoint's segment: drawn by the reference's seed, none twice in one."""
    numbers = np.random.default_rng([plan.reference_seed, index])
    size = min(minibatch_size(plan), samples)
    return [torch.from_numpy(numbers.choice(samples, size, replace=False)) for _ in range(MINIBATCHES)]


def _calibrated(problem: Problem, checkpoint: Checkpoint, directions, plan: Plan, index: int) -> Prepared:
    centre = needs_centre(plan, index)
    if problem.estimators:
        return prepare(problem, checkpoint, directions, len(plan.checkpoints), centre)
    return Prepared({}, Stencil((CENTRE,) if centre else (), {}), {}, {}, {})


def needs_centre(plan: Plan, index: int) -> bool:
    """Return whether the losses or embeddings at the checkpoint itself are wanted."""
    last = index == len(plan.checkpoints) - 1
    clip_scores = {Score.CLIP_SCORE, Score.NEG_CLIP_LOSS} & set(plan.scores)
    return Score.LOSS in plan.scores or (last and bool(clip_scores) and plan.clip_model is None)


def _store_checkpoint(storage: Storage, plan: Plan, index: int, outcome: Prepared, checkpoint: Checkpoint) -> None:
    used = {name for point in outcome.stencil.points for name, _ in point}
    directions = {name: value for name, value in outcome.directions.items() if name in used}
    theta = checkpoint.segment.theta
    with torch.no_grad():
        contexts = [checkpoint.samples.context(move(theta, p, directions)) for p in outcome.stencil.points]
    prepared.save_checkpoint(storage, plan, index, prepared.PreparedCheckpoint(outcome.stencil, directions, contexts))


def _accuracies(outcomes: Sequence[Prepared]) -> dict[str, Agreement]:
    if not outcomes[0].fast:
        return {}
    fast, exact = (total([getattr(o, kind) for o in outcomes]) for kind in ("fast", "exact"))
    return {name: agreement(fast[name], exact[name]) for name in fast}
