"""What leaving samples out did, and what each estimator said that it would do.

The estimators are those of `diffin/`, with exact derivatives in float64: their differences are measured elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from benchmarks.retraining.training import Saved, Training
from diffin import prepare
from diffin.adjoint import LANCZOS_STEPS, Segment, adjoint
from diffin.autodiff import derivative
from diffin.batch_loss import BatchLoss, ContrastiveLoss, GaussNewton
from diffin.exact import exact_terms
from diffin.samples import SampleLosses

AT_ONCE = 500
"""Samples that are scored together: the second derivatives of a ResNet take megabytes a sample."""


@dataclass(frozen=True)
class Choice:
    """Settings of `diffin`; the defaults are those of a job.

    Attributes:
        checkpoints: m, evenly apart.
        pieces: of each segment, a minibatch for each.
        lanczos_steps: for each minibatch.
        size: of B and of the minibatches.
        gauss_newton: take the Gauss-Newton matrix of a contrastive loss in the place of its Hessian where P is known.
        between: take each piece at a theta between the segment's ends, not at its end.
        seed: of the draw of B and the minibatches.
    """

    checkpoints: int = 5
    pieces: int = 5
    lanczos_steps: int = LANCZOS_STEPS
    size: int = 256
    gauss_newton: bool = False
    between: bool = False
    seed: int = 0


class RetrainedProblem(Protocol):
    """A model, its pool, its validation samples, and how it is trained."""

    @property
    def training(self) -> Training: ...
    @property
    def pool(self) -> Any: ...
    @property
    def validation(self) -> Any: ...

    def train(self, training: Training) -> tuple[list[Saved], Tensor]:
        """Return the training with all samples, from its start on, and L_V (K + 1,) of all, that one last."""
        ...

    def loss(self, saved: Saved, batch: Any) -> BatchLoss: ...
    def samples(self, saved: Saved, reference: Any) -> SampleLosses: ...
    def clip_score(self, saved: Saved, batch: Any) -> Tensor | None: ...


@dataclass(frozen=True)
class Outcome:
    """The trained model, and what leaving each group out did.

    Attributes:
        saved: before the first and after every step, or every epoch, of the training with all samples.
        truth: (K,) L_V without the group less L_V with it.
    """

    saved: list[Saved]
    truth: Tensor


def retrain(problem: RetrainedProblem, training: Training) -> Outcome:
    saved, losses = problem.train(training)
    return Outcome(saved, (losses[:-1] - losses[-1]) / (1 - training.weight))


def of_groups(problem: RetrainedProblem, score: Callable[[Any], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the groups' sums (K,) of scores of single samples."""
    groups = problem.training.groups()
    rows, places = groups.unique(return_inverse=True)
    pieces = [score(problem.pool[some]) for some in rows.split(AT_ONCE)]
    return {name: torch.cat([piece[name] for piece in pieces])[places].sum(1) for name in pieces[0]}


def scores(problem: RetrainedProblem, saved: list[Saved], choice: Choice = Choice()) -> dict[str, Tensor]:
    """Return each estimator's scores (K,) of the groups, V = validation, and CLIP score where there is one."""
    checkpoints = checkpoints_of(problem, saved, choice)
    estimators = (prepare.DIFFIN, prepare.EQ9, prepare.TRACIN)
    asked = prepare.Problem(None, None, estimators, problem.training.samples, choice.lanczos_steps)
    influence = prepare.influence_directions(asked, checkpoints)
    assert influence is not None

    def of(probes: Any) -> dict[str, Tensor]:
        terms = []
        for checkpoint, r in zip(checkpoints, influence, strict=True):
            directions = prepare.local_directions(asked, checkpoint) | {"influence": r}
            exact = exact_terms(checkpoint.samples64, checkpoint.segment.theta, directions, probes)
            factors = prepare.coefficients(checkpoint, asked.n_samples, len(checkpoints))
            terms.append({name: factors[name] * value for name, value in exact.items()})
        found, clip_score = prepare.total(terms), problem.clip_score(saved[-1], probes)
        return found if clip_score is None else found | {"clip_score": clip_score}

    return of_groups(problem, of)


def checkpoints_of(problem: RetrainedProblem, saved: list[Saved], choice: Choice) -> list[prepare.Checkpoint]:
    """Return the last theta of each equal part of the training, as a job would be given them."""
    training, numbers = problem.training, torch.Generator().manual_seed(choice.seed)
    draw = lambda: torch.randperm(training.samples, generator=numbers)[: choice.size]  # noqa: E731
    reference = problem.pool[draw()]
    apart = (len(saved) - 1) // choice.checkpoints
    checkpoints, before = [], 0
    for one in saved[apart::apart]:
        minibatches = [problem.loss(one, problem.pool[draw()]) for _ in range(choice.pieces)]
        if choice.gauss_newton and one.preconditioner is not None:
            minibatches = [GaussNewton(loss) if isinstance(loss, ContrastiveLoss) else loss for loss in minibatches]
        lr_sum = sum(training.lr(step) for step in range(before, one.step))
        samples = problem.samples(one, reference)
        checkpoints.append(
            prepare.Checkpoint(
                Segment(one.theta, lr_sum, minibatches, one.preconditioner),
                one.step,
                training.lr(one.step - 1),
                problem.loss(one, reference),
                problem.loss(one, problem.validation),
                samples,
                samples,
            )
        )
        before = one.step
    return checkpoints


def diffin_scores(problem: RetrainedProblem, saved: list[Saved], choice: Choice) -> Tensor:
    """Return `diffin` (K,) alone, by any choice."""
    checkpoints = checkpoints_of(problem, saved, choice)
    segments = [checkpoint.segment for checkpoint in checkpoints]
    u_end = checkpoints[-1].target_gradient
    if choice.between:
        directions = _between(segments, u_end, choice.lanczos_steps)
    else:
        directions = adjoint(segments, u_end, choice.lanczos_steps)

    def of(probes: Any) -> dict[str, Tensor]:
        terms = [
            exact_terms(c.samples64, c.segment.theta, {"influence": r}, probes)["diffin"]
            for c, r in zip(checkpoints, directions, strict=True)
        ]
        return {"diffin": torch.stack(terms).sum(0) / problem.training.samples}

    return of_groups(problem, of)["diffin"]


def _between(segments: list[Segment], u_end: Tensor, lanczos_steps: int) -> list[Tensor]:
    """Return the segments' directions where each piece has the theta and P of its middle, found on a straight line.

    Its share of the score goes to the checkpoints at both ends, by how near they are. Before the first checkpoint there
    is none, so there its own theta is taken.
    """
    finer, shares = [], []
    for place, segment in enumerate(segments):
        before, count = segments[max(place - 1, 0)], len(segment.minibatches)
        for piece, loss in enumerate(segment.minibatches):
            near = (piece + 0.5) / count
            mixed = [near * a + (1 - near) * b for a, b in ((segment.theta, before.theta), _inverse_p(segment, before))]
            preconditioner = None if segment.preconditioner is None else 1 / mixed[1]
            finer.append(Segment(mixed[0], segment.lr_sum / count, [loss], preconditioner))
            shares.append((place, near))
    directions = [torch.zeros_like(u_end) for _ in segments]
    for (place, near), r in zip(shares, adjoint(finer, u_end, lanczos_steps), strict=True):
        directions[place] += near * r
        directions[max(place - 1, 0)] += (1 - near) * r
    return directions


def _inverse_p(segment: Segment, before: Segment) -> tuple[Tensor, Tensor]:
    if segment.preconditioner is None or before.preconditioner is None:
        return torch.ones(()), torch.ones(())
    return 1 / segment.preconditioner, 1 / before.preconditioner


def unrolled(problem: RetrainedProblem, saved: list[Saved], choice: Choice = Choice()) -> dict[str, Tensor]:
    """Return the scores (K,) of the recursion with nothing frozen, for SGD: what five checkpoints stand for.

    Every step has the theta and the minibatch's Hessian that it had; z has weight 1/N in all of them.
    """
    training, numbers = problem.training, torch.Generator().manual_seed(choice.seed)
    reference = problem.pool[torch.randperm(training.samples, generator=numbers)[: choice.size]]

    def of(probes: Any) -> dict[str, Tensor]:
        u, total = problem.loss(saved[-1], problem.validation).gradient(saved[-1].theta), torch.zeros(())
        for before, rows in zip(reversed(saved[:-1]), reversed(training.minibatches()), strict=True):
            lr, samples = training.lr(before.step), problem.samples(before, reference)
            losses = lambda theta, s=samples: s.losses(theta, s.context(theta), probes)  # noqa: E731
            total = total + lr / training.samples * derivative(losses, before.theta, u)[1]
            u = u - lr * problem.loss(before, problem.pool[rows]).hvp(before.theta, u)
        return {"unrolled": total}

    return of_groups(problem, of)
