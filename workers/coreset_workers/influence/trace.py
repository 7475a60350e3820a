"""The training of a plan, traced: its samples drawn, its checkpoints as segments, and their directions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from coreset.errors import PoolUnusable
from coreset.schemas.plan import Plan, PlannedCheckpoint
from coreset.spec.scores import ESTIMATORS, Score
from coreset_workers.checkpoints import files as checkpoint_files
from coreset_workers.checkpoints.optimizer import adam_preconditioner
from coreset_workers.data.decode import Sample
from coreset_workers.data.loader import Loader
from coreset_workers.data.reference import draw
from coreset_workers.influence.finite import not_finite, require_finite
from coreset_workers.model.batch_size import LARGEST_GRAPH, graph_samples
from coreset_workers.model.clip import ClipModel
from coreset_workers.model.inputs import RUN, pairs_of_samples
from diffin.accuracy import Reliability, reliability
from diffin.adjoint import NonFinite, Resolution, Segment
from diffin.batch_loss import BatchLoss, ContrastiveLoss, GaussNewton
from diffin.contrastive import Pairs
from diffin.layout import norm
from diffin.prepare import DIFFIN, Checkpoint, Directions, Influence, Problem, local_directions, trace_influence
from diffin.samples import ContrastiveLosses

PROBES = 32
"""Samples on which steps are calibrated and the accuracy is measured."""

MINIBATCHES = 5
"""For each segment of the training: five times as many followed it no better (docs/method.md, section 8)."""

TOLERANCE = 0.01
"""Residual of the adjoint at which the Lanczos steps for a minibatch end before `LANCZOS_STEPS` are done."""

COMPARED = 256
"""Samples besides the probes on which `diffin` by one draw of minibatches is compared with `diffin` by the other."""

MINIBATCH = 256
"""Samples of a minibatch whatever the size of B; ones of 128 followed training less well, ones of 512 no better."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Drawn:
    """The samples that a plan's scores are about: B, the probes, what minibatches are drawn from, and V if given."""

    reference: list[Sample]
    probes: list[Sample]
    minibatches: list[Sample]
    target: list[Sample] | None
    warnings: list[str]

    @property
    def compared(self) -> list[Sample]:
        """The samples on which reliability is measured: the probes and those drawn after them."""
        first = len(self.reference)
        return self.minibatches[first : first + len(self.probes) + COMPARED]


def draw_samples(plan: Plan, loader: Loader, progress: Progress) -> Drawn:
    progress("drawing the reference batch", 0.1)
    wanted = plan.reference_size + PROBES
    samples, short = draw(plan.shards, max(wanted, samples_of_minibatches(plan)), plan.reference_seed, loader)
    size = min(plan.reference_size, max(len(samples) - PROBES, len(samples) // 2))
    warnings = [short] if short and len(samples) < wanted else []
    target = None
    if not isinstance(plan.target, str):
        progress("drawing the validation samples", 0.15)
        target, few = draw(plan.target_shards, plan.target.size, plan.reference_seed, loader)
        warnings += [f"validation pool: {few}"] if few else []
    probes = samples[size : size + PROBES]
    if len(probes) < PROBES:
        warnings.append(f"steps and accuracy were measured on {len(probes)} samples: the pool has no {PROBES} to spare")
    for batch, name in ((samples[:size], "the reference batch"), (target or [], "the validation samples")):
        _require_negatives(batch, name)
    return Drawn(samples[:size], probes, samples, target, warnings)


def _require_negatives(batch: list[Sample], name: str) -> None:
    """Raise PoolUnusable if no sample of a batch is a negative of another: its loss is then 0 whatever the model."""
    if batch and len({sample.caption for sample in batch}) == 1:
        raise PoolUnusable(
            f"{name} holds {len(batch)} samples with one caption, {batch[0].caption!r}: equal captions are no "
            "negatives of each other, so there is no loss. Check `caption_field`, or give a larger reference.",
            caption=batch[0].caption,
        )


def samples_of_minibatches(plan: Plan) -> int:
    """Return how many samples both draws of minibatches are taken from."""
    return min(2 * MINIBATCHES * MINIBATCH, int(plan.n_samples.value))


@dataclass(frozen=True)
class Traced:
    """A plan's checkpoints with their directions, in one precision; the scoring passes may have another.

    Attributes:
        reference: B, on the device.
        fixed: by checkpoint, its weights that are not counted, and its buffers.
        directions: by checkpoint, (p,) each.
        reliability: of `diffin`, if it is wanted.
        resolutions: of the adjoint, by draw of minibatches and checkpoint.
        warnings: what the user should know.
    """

    problem: Problem
    model: ClipModel
    reference: Pairs
    checkpoints: list[Checkpoint]
    fixed: list[dict[str, Tensor]]
    directions: list[Directions]
    reliability: Reliability | None
    resolutions: list[list[Resolution]]
    warnings: list[str]

    @property
    def dtype(self) -> torch.dtype:
        return self.model.mean.dtype


def trace(plan: Plan, drawn: Drawn, device: torch.device, dtype: torch.dtype, progress: Progress) -> Traced:
    """Load the checkpoints and find the directions of all estimators.

    Raises:
        CheckpointUnusable: a checkpoint does not fit, or it or a direction is not finite.
    """
    model = ClipModel.build(plan.model, device, dtype, plan.parameters)
    model64 = model  # where nothing is measured, nobody asks for float64
    if {*ESTIMATORS, Score.SELF_INFLUENCE} & set(plan.scores):
        model64 = ClipModel.build(plan.model, device, torch.float64, plan.parameters)
    probes = pairs_of_samples(drawn.probes, RUN).to(device)
    estimators = tuple(score.value for score in ESTIMATORS if score in plan.scores)
    problem = Problem(probes, probes, estimators, plan.n_samples.value, tolerance=TOLERANCE)
    samples = pairs_of_samples(drawn.minibatches, RUN)
    reference = pairs_of_samples(drawn.reference, RUN).to(device)
    graph = graph_samples(model) if estimators else LARGEST_GRAPH
    loaded = [
        _checkpoint(plan, planned, model, model64, drawn, reference, samples, graph) for planned in plan.checkpoints
    ]
    checkpoints = [checkpoint for checkpoint, _ in loaded]
    influence = _influence(plan, problem, checkpoints, progress)
    directions = [local_directions(problem, checkpoint) for checkpoint in checkpoints]
    for index, found in enumerate(directions):
        found |= {} if influence is None else {"influence": influence.directions[index]}
        for name, direction in found.items():
            require_finite(norm(direction), f"the {name} direction", plan.checkpoints[index].uri)
    compared = None
    if influence is not None:
        compared = _reliability(checkpoints, influence, pairs_of_samples(drawn.compared, RUN).to(device), graph)
    return Traced(
        problem,
        model,
        reference,
        checkpoints,
        [fixed for _, fixed in loaded],
        directions,
        compared,
        [] if influence is None else influence.resolutions,
        _doubts(plan, checkpoints, directions),
    )


def _reliability(
    checkpoints: Sequence[Checkpoint], influence: Influence, samples: Pairs, batch_size: int
) -> Reliability:
    """Compare `diffin` by one draw of minibatches with `diffin` by the other, by exact slopes."""
    scores = torch.zeros(len(influence.draws), len(samples), dtype=torch.float64)
    for index, checkpoint in enumerate(checkpoints):
        theta, losses = checkpoint.segment.theta, checkpoint.samples
        assert isinstance(losses, ContrastiveLosses)
        for place, directions in enumerate(influence.draws):
            context = losses.context_along(theta, directions[index])
            for start in range(0, len(samples), batch_size):
                rows = slice(start, start + batch_size)
                scores[place, rows] += losses.slopes(theta, directions[index], context, samples[rows])[1].cpu()
    return reliability(scores[0], scores[1])


def _influence(plan: Plan, problem: Problem, checkpoints: Sequence[Checkpoint], progress: Progress) -> Influence | None:
    """Return the adjoint's directions, or None if diffin is not wanted.

    Raises:
        CheckpointUnusable: the trace back through training diverges; names the checkpoint.
    """
    if DIFFIN not in problem.estimators:
        return None
    say = lambda share: progress("tracing the target's gradient back through training", 0.2 + 0.6 * share)  # noqa: E731
    try:
        return trace_influence(problem, checkpoints, say)
    except NonFinite as error:
        uri = plan.checkpoints[error.segment or 0].uri
        raise not_finite(f"{error.what} on the way back through training", uri) from error


def _doubts(plan: Plan, checkpoints: Sequence[Checkpoint], directions: Sequence[Directions]) -> list[str]:
    """Return what the user should know of each checkpoint."""
    found = [
        f"{planned.uri} does not tell Adam's second moments of all parameters counted, or in an order that is not "
        "known: diffin takes P = 1 there"
        for planned, checkpoint in zip(plan.checkpoints, checkpoints, strict=True)
        if planned.optimizer and checkpoint.segment.preconditioner is None
    ]
    found += [
        f"{after.uri} holds the same weights as {before.uri}"
        for (before, after), (old, new) in zip(pairwise(plan.checkpoints), pairwise(checkpoints), strict=True)
        if torch.equal(old.segment.theta, new.segment.theta)
    ]
    for planned, here in zip(plan.checkpoints, directions, strict=True):
        still = [name for name, direction in here.items() if not direction.any()]
        if still:
            found.append(f"{planned.uri}: the {', '.join(still)} direction is 0, and so are the terms along it")
    return found


def _checkpoint(
    plan: Plan,
    planned: PlannedCheckpoint,
    model: ClipModel,
    model64: ClipModel,
    drawn: Drawn,
    reference: Pairs,
    samples: Pairs,
    graph: int,
) -> tuple[Checkpoint, dict[str, Tensor]]:
    """Return a checkpoint, and what of its weights is fixed."""
    loaded = checkpoint_files.load(planned.uri)
    weights = model.weights(loaded.state_dict, planned.uri)
    require_finite(norm(weights.theta), "the norm of the parameters", planned.uri)
    for name, value in weights.fixed.items():
        require_finite(float(value.double().sum()), f"the sum of {name}", planned.uri)
    encode = model.encoder(weights.fixed)
    by_name = None
    if planned.optimizer:
        shapes = {name: shape for name, shape in model.shapes.items() if plan.trained is None or name in plan.trained}
        by_name = adam_preconditioner(loaded.optimizer, shapes, model.layout.names)
    preconditioner = None if by_name is None else model.layout.flatten(by_name).to(weights.theta)

    def loss(pairs: Pairs) -> ContrastiveLoss:
        return ContrastiveLoss(encode, pairs.to(model.device), model.kind, batch_size=graph)

    def curved(pairs: Pairs) -> BatchLoss:
        return loss(pairs) if preconditioner is None else GaussNewton(loss(pairs))

    draws = [
        Segment(
            weights.theta, planned.lr_sum.value, [_Minibatch(samples, some, curved) for some in chosen], preconditioner
        )
        for chosen in _choices(plan, planned.index, len(samples))
    ]
    checkpoint = Checkpoint(
        draws[0],
        planned.step.value,
        planned.lr.value,
        loss(reference),
        None if drawn.target is None else loss(pairs_of_samples(drawn.target, RUN)),
        ContrastiveLosses(encode, reference, model.kind),
        ContrastiveLosses(model64.encoder(weights.fixed), reference, model.kind),
        draws[1],
    )
    return checkpoint, weights.fixed


@dataclass(frozen=True)
class _Minibatch:
    """The loss of some of the samples, whose tensors are put together when they are asked for."""

    samples: Pairs
    chosen: Tensor
    loss: Callable[[Pairs], BatchLoss]

    def gradient(self, theta: Tensor) -> Tensor:
        return self.loss(self.samples[self.chosen]).gradient(theta)

    def hvp(self, theta: Tensor, direction: Tensor) -> Tensor:
        return self.loss(self.samples[self.chosen]).hvp(theta, direction)


def _choices(plan: Plan, index: int, samples: int) -> list[list[Tensor]]:
    """Return the rows of the minibatches of a checkpoint's segment, in two draws by the reference's seed.

    No sample is twice in one minibatch. The draws share no sample where there are enough: their agreement would
    otherwise say more than it should.
    """
    size = min(MINIBATCH, samples)
    apart = samples >= 2 * size
    draws: list[list[Tensor]] = []
    for place in range(2):
        numbers = np.random.default_rng([plan.reference_seed, index, place])
        rows = np.arange(samples)[place::2] if apart else np.arange(samples)
        draws.append([torch.from_numpy(numbers.choice(rows, size, replace=False)) for _ in range(MINIBATCHES)])
    return draws
