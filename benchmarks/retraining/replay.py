"""The derivative of a whole AdamW training: what lowering each sample's weight does to L_V, exact and for all at once.

The training with all samples is replayed backwards through its steps, the moments included, so nothing is frozen: it is
the limit of `Training.lowered` for small changes, at the price of a few trainings instead of one for each group.
"""

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.retraining.contrastive import ContrastiveProblem, weighted_loss
from benchmarks.retraining.training import BETA1, BETA2, EPSILON, Saved


def replayed(problem: ContrastiveProblem, every: int, frozen: bool = False) -> tuple[list[Saved], Tensor]:
    """Return the training with all samples, saved every so many steps, and (n,) what leaving a sample out does to L_V.

    The second is of first order: -d L_V / d weight.

    Args:
        frozen: take each step's P for a constant, as `diffin` does: the most that it can know.
    """
    training, decayed = problem.training, problem.decayed
    decay = torch.zeros_like(problem.start) if decayed is None else training.weight_decay * decayed
    theta, first, second = problem.start, torch.zeros_like(problem.start), torch.zeros_like(problem.start)
    minibatches, states, saved = training.minibatches(), [], [Saved(0, problem.start)]
    for step, rows in enumerate(minibatches):
        slope = _slope(problem, theta, rows)[0].detach()
        first, second = BETA1 * first + (1 - BETA1) * slope, BETA2 * second + (1 - BETA2) * slope**2
        states.append((theta, slope, first, second))
        mean, root = first / (1 - BETA1 ** (step + 1)), (second / (1 - BETA2 ** (step + 1))).sqrt()
        theta = theta * (1 - training.lr(step) * decay) - training.lr(step) * mean / (root + EPSILON)
        if (step + 1) % every == 0:
            saved.append(Saved(step + 1, theta, torch.where(second > 0, 1 / (root + EPSILON), 0)))
    of_theta = _validation_slope(problem, theta)
    of_first, of_second = torch.zeros_like(theta), torch.zeros_like(theta)
    total = torch.zeros(training.samples, dtype=theta.dtype)
    for step in range(len(minibatches) - 1, -1, -1):
        (before, slope, first, second), lr = states.pop(), training.lr(step)
        c1, c2 = 1 - BETA1 ** (step + 1), 1 - BETA2 ** (step + 1)
        root = (second / c2).sqrt()
        of_first = of_first - lr / c1 / (root + EPSILON) * of_theta
        bend = lr * first / c1 / (root + EPSILON) ** 2 / (2 * c2 * root.clamp_min(1e-300))
        of_second = of_second + torch.where(second > 0, bend, 0) * of_theta
        of_slope = (1 - BETA1) * of_first
        if not frozen:
            of_slope = of_slope + 2 * (1 - BETA2) * slope * of_second
        again, point, weights = _slope(problem, before, minibatches[step], create_graph=True)
        product, of_weights = torch.autograd.grad(again @ of_slope, (point, weights))
        total[minibatches[step]] -= of_weights
        of_theta = of_theta * (1 - lr * decay) + product
        of_first, of_second = BETA1 * of_first, BETA2 * of_second
    return saved, total


def _validation_slope(problem: ContrastiveProblem, theta: Tensor) -> Tensor:
    """Return the gradient (p,) of the loss that the truth is measured by, in which equal captions are negatives."""
    point = theta.detach().requires_grad_()
    weights = torch.ones(len(problem.validation), dtype=theta.dtype)
    with sdpa_kernel(SDPBackend.MATH):
        return torch.autograd.grad(weighted_loss(problem.encode(point, problem.validation), weights), point)[0]


def _slope(
    problem: ContrastiveProblem, theta: Tensor, rows: Tensor, create_graph: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient (p,) of a minibatch's loss, and the leaves that it is a function of: theta and weights."""
    point = theta.detach().requires_grad_()
    weights = torch.ones(len(rows), dtype=theta.dtype, requires_grad=True)
    with sdpa_kernel(SDPBackend.MATH):
        loss = problem.loss_without(point, rows, weights)
        return torch.autograd.grad(loss, point, create_graph=create_graph)[0], point, weights
