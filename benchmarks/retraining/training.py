"""Trainings side by side: one with all samples, and one without each of some groups of them.

All are one batch of parameter vectors, in float64 and with the same minibatches.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

BETA1, BETA2, EPSILON = 0.9, 0.98, 1e-6
NUDGE = 0.01
"""How far the second truth of a full-batch training starts from the first, relative to the weights."""

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(theta (p,), rows (b,), weights (b,)) -> the loss () of a minibatch; weight 0 is as if the sample were not there."""


@dataclass(frozen=True)
class Training:
    """Options of a training.

    Attributes:
        optimizer: sgd or adamw.
        rate: the highest learning rate.
        steps, batch_size, samples: `batch_size` may be `samples`; then every step sees all of them in order.
        retrainings, removed: how many trainings leave something out, and how many samples each of them.
        cosine: whether the rate falls along half a cosine, to `floor` of it.
        warmup: steps in which the rate rises.
        weight_decay: AdamW's, of matrices.
        seed: of the pool, the weights, the minibatches and the removed samples.
        order: of the minibatches; another one is another training from the same start.
        weight: of the samples that a retraining is without: 0 leaves them out, and what is just below 1 measures the
            derivative of leaving them out, which is all that a first-order estimator can know.
    """

    optimizer: str
    rate: float
    steps: int
    batch_size: int
    samples: int
    retrainings: int
    removed: int = 1
    cosine: bool = True
    floor: float = 0.0
    warmup: int = 0
    weight_decay: float = 0.0
    seed: int = 0
    order: int = 0
    weight: float = 0.0

    def lr(self, step: int) -> float:
        """Return the learning rate of a 0-based step."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps)) + self.floor if self.cosine else 1.0
        return self.rate * rise * fall

    def again(self) -> "Training":
        """Return the same in another order: how much of the truth is the samples', not this one training's."""
        return replace(self, order=self.order + 1)

    def lowered(self) -> "Training":
        """Return the same with the samples' weights lowered by 5 % in the place of leaving them out."""
        return replace(self, weight=0.95)

    def groups(self) -> Tensor:
        """Return (K, removed): the rows that each retraining is without."""
        numbers = torch.Generator().manual_seed(self.seed + 1)
        if self.removed == 1:
            return torch.randperm(self.samples, generator=numbers)[: self.retrainings, None]
        drawn = [torch.randperm(self.samples, generator=numbers)[: self.removed] for _ in range(self.retrainings)]
        return torch.stack(drawn)

    def minibatches(self) -> list[Tensor]:
        """Return the rows of every step's minibatch: the pool in another order every epoch."""
        if self.batch_size == self.samples:
            return [torch.arange(self.samples)] * self.steps
        numbers = torch.Generator().manual_seed(1000 * self.order + self.seed + 3)
        per_epoch = self.samples // self.batch_size
        orders = [torch.randperm(self.samples, generator=numbers) for _ in range(-(-self.steps // per_epoch))]
        rows = [rows for order in orders for rows in order.split(self.batch_size) if len(rows) == self.batch_size]
        return rows[: self.steps]


@dataclass(frozen=True)
class Saved:
    """theta (p,) after `step` steps, P (p,) or None, and the running statistics, if there are any, by name."""

    step: int
    theta: Tensor
    preconditioner: Tensor | None = None
    fixed: dict[str, Tensor] = field(default_factory=dict)


def side_by_side(
    training: Training, start: Tensor, loss: Loss, decayed: Tensor | None = None
) -> tuple[list[Saved], Tensor]:
    """Train without each group and, last, with all samples.

    Args:
        decayed: (p,) bool, which parameters decay.

    Returns:
        The training with all samples, before the first and after every step; and the last theta of all (K + 1, p).
    """
    groups = training.groups()
    weights = torch.ones(len(groups) + 1, training.samples, dtype=start.dtype)
    weights[:-1].scatter_(1, groups, training.weight)
    if training.order and training.batch_size == training.samples:
        start = start + NUDGE * start.std() * torch.randn(start.shape, generator=_numbers(training), dtype=start.dtype)
    theta = start.expand(len(weights), -1).clone()
    moments = (torch.zeros_like(theta), torch.zeros_like(theta))
    saved = [Saved(0, start)]
    for step, rows in enumerate(training.minibatches()):
        with sdpa_kernel(SDPBackend.MATH):  # the fused attention has no batching rule
            slope = vmap(grad(lambda one, w, rows=rows: loss(one, rows, w)))(theta, weights[:, rows])
        preconditioner, lr = None, training.lr(step)
        if training.optimizer == "adamw":
            slope, moments, preconditioner = _adam(slope, moments, step + 1)
        if decayed is not None:
            theta = theta * (1 - lr * training.weight_decay * decayed)
        theta = theta - lr * slope
        saved.append(Saved(step + 1, theta[-1].clone(), None if preconditioner is None else preconditioner[-1].clone()))
    return saved, theta


def _numbers(training: Training) -> torch.Generator:
    return torch.Generator().manual_seed(1000 * training.order + training.seed)


def _adam(slope: Tensor, moments: tuple[Tensor, Tensor], step: int) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
    """Return Adam's step, its moments, and P."""
    first = BETA1 * moments[0] + (1 - BETA1) * slope
    second = BETA2 * moments[1] + (1 - BETA2) * slope**2
    preconditioner = 1 / ((second / (1 - BETA2**step)).sqrt() + EPSILON)
    return preconditioner * first / (1 - BETA1**step), (first, second), preconditioner
