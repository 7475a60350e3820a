"""A small classifier of digits: three tanh layers, 10 % of the training labels redrawn at random."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor

from benchmarks.retraining.training import Saved, Training, side_by_side
from diffin.batch_loss import MeanLoss
from diffin.layout import Layout
from diffin.samples import ModuleLosses

WIDTHS = (64, 32, 32, 10)
SHAPES = [shape for a, b in itertools.pairwise(WIDTHS) for shape in ((a, b), (b,))]
LAYOUT = Layout(tuple(str(i) for i in range(len(SHAPES))), tuple(torch.Size(shape) for shape in SHAPES))
VALIDATION = 500
WRONG = 0.1


@dataclass(frozen=True)
class Labelled:
    """Images (n, ...) and their classes (n,)."""

    images: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, rows: slice | Tensor) -> "Labelled":
        return Labelled(self.images[rows], self.classes[rows])


def losses(theta: Tensor, batch: Any) -> Tensor:
    """Return each image's cross-entropy (n,); the batch is Labelled."""
    weights, hidden = list(LAYOUT.unflatten(theta).values()), batch.images
    for matrix, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        hidden = torch.tanh(hidden @ matrix + bias)
    return F.cross_entropy(hidden @ weights[-2] + weights[-1], batch.classes, reduction="none")


@dataclass(frozen=True)
class DigitsProblem:
    """The classifier in float64: its pool, and sound validation images.

    Attributes:
        start: (p,) the first weights.
        wrong: (n,) bool, whose label in the pool is not the true one.
    """

    training: Training
    start: Tensor
    pool: Labelled
    validation: Labelled
    wrong: Tensor

    def train(self, training: Training) -> tuple[list[Saved], Tensor]:
        """Return the training with all samples and L_V (K + 1,) of all trainings, that one last."""
        saved, thetas = side_by_side(training, self.start, self.loss_without)
        return saved, torch.stack([losses(theta, self.validation).mean() for theta in thetas])

    def loss_without(self, theta: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        return (losses(theta, self.pool[rows]) * weights).mean()

    def loss(self, saved: Saved, batch: Labelled) -> MeanLoss:
        return MeanLoss(losses, [batch], len(batch))

    def samples(self, saved: Saved, reference: Labelled) -> ModuleLosses:
        return ModuleLosses(losses)

    def clip_score(self, saved: Saved, batch: Labelled) -> None:
        return None


def digits(training: Training) -> DigitsProblem:
    numbers = torch.Generator().manual_seed(training.seed)
    pixels, classes = (torch.tensor(np.asarray(array)) for array in load_digits(return_X_y=True))
    order = torch.randperm(len(classes), generator=numbers)[: training.samples + VALIDATION]
    whole = Labelled(pixels[order] / 16, classes[order])
    wrong = torch.rand(training.samples, generator=numbers) < WRONG
    given = whole.classes[: training.samples].clone()
    given[wrong] = torch.randint(WIDTHS[-1], (int(wrong.sum()),), generator=numbers)
    pool = Labelled(whole.images[: training.samples], given)
    wrong = given != whole.classes[: training.samples]
    return DigitsProblem(training, _start(numbers), pool, whole[training.samples :], wrong)


def _start(numbers: torch.Generator) -> Tensor:
    drawn = [torch.randn(shape, generator=numbers, dtype=torch.float64) for shape in SHAPES]
    return torch.cat([(d / len(d) ** 0.5 if d.ndim == 2 else torch.zeros_like(d)).reshape(-1) for d in drawn])
