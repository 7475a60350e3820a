"""A small contrastive model on images of digits, trained with all samples and again without each of some.

All trainings run side by side, as one batch of parameter vectors, in float64 with the same minibatches.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.func import grad, vmap

from diffin.batch_loss import ContrastiveLoss
from diffin.contrastive import Encoded, LossKind, Pairs, sample_losses
from diffin.layout import Layout

HIDDEN, EMBEDDING = 64, 32
SHAPES = {
    "image.in": (64, HIDDEN),
    "image.bias": (HIDDEN,),
    "image.out": (HIDDEN, EMBEDDING),
    "text.in": (20, HIDDEN),
    "text.bias": (HIDDEN,),
    "text.out": (HIDDEN, EMBEDDING),
    "log_scale": (),
}
LAYOUT = Layout(tuple(SHAPES), tuple(torch.Size(shape) for shape in SHAPES.values()))
MISMATCHED = 0.2
BETA1, BETA2, EPSILON = 0.9, 0.98, 1e-6


@dataclass(frozen=True)
class Training:
    """What a training is told: `optimizer` is sgd or adam; the rate falls along a cosine."""

    optimizer: str
    rate: float
    steps: int = 400
    batch_size: int = 64
    samples: int = 512
    left_out: int = 100
    seed: int = 0

    def lr(self, step: int) -> float:
        """Learning rate of a 0-based step."""
        return self.rate * (0.5 * (1 + math.cos(math.pi * step / self.steps)) + 0.02)


@dataclass(frozen=True)
class Saved:
    """theta (p,) after `step` steps, and P (p,) or None."""

    step: int
    theta: Tensor
    preconditioner: Tensor | None


@dataclass(frozen=True)
class Outcome:
    """The trained model, and what leaving a sample out did.

    Attributes:
        saved: after every step of the full training.
        removed: (K,) rows of the pool.
        truth: (K,) L_V without the sample less L_V with it.
    """

    saved: list[Saved]
    removed: Tensor
    truth: Tensor


def encode(theta: Tensor, pairs: Pairs) -> Encoded:
    """Return the embeddings of pairs whose images are (n, 64) and whose captions are vectors (n, 20)."""
    p = LAYOUT.unflatten(theta)
    towers = []
    for name, inputs in (("image", pairs.images), ("text", pairs.tokens)):
        hidden = torch.tanh(inputs @ p[f"{name}.in"] + p[f"{name}.bias"])
        towers.append(torch.nn.functional.normalize(hidden @ p[f"{name}.out"], dim=-1))
    return Encoded(towers[0], towers[1], p["log_scale"].exp(), torch.zeros_like(p["log_scale"]))


@dataclass(frozen=True)
class Problem:
    """The pool, 20 % of its captions swapped among each other, and as many sound validation pairs."""

    training: Training

    @cached_property
    def _pairs(self) -> tuple[Pairs, Pairs]:
        numbers = torch.Generator().manual_seed(self.training.seed)
        pixels, classes = (torch.tensor(np.asarray(array)) for array in load_digits(return_X_y=True))
        order = torch.randperm(len(classes), generator=numbers)[: 2 * self.training.samples]
        images = pixels[order] / 16 - 0.3
        captions = _captions(images, classes[order], numbers)
        pool, validation = images.split(self.training.samples), captions.split(self.training.samples)
        swapped = torch.rand(self.training.samples, generator=numbers) < MISMATCHED
        told = validation[0].clone()
        told[swapped] = told[swapped][torch.randperm(int(swapped.sum()), generator=numbers)]
        ids = torch.arange(self.training.samples)
        return Pairs(pool[0], told, ids, ids), Pairs(pool[1], validation[1], ids, ids)

    @property
    def pool(self) -> Pairs:
        return self._pairs[0]

    @property
    def validation(self) -> Pairs:
        return self._pairs[1]

    def loss(self, pairs: Pairs) -> ContrastiveLoss:
        return ContrastiveLoss(encode, pairs, LossKind.INFO_NCE, batch_size=len(pairs))

    def train(self) -> Outcome:
        """Train on all samples and on all but one, for each of those left out."""
        t = self.training
        numbers = torch.Generator().manual_seed(t.seed + 1)
        removed = torch.randperm(t.samples, generator=numbers)[: t.left_out]
        absent = torch.zeros(t.left_out + 1, t.samples, dtype=torch.bool)  # the last training has all samples
        absent[torch.arange(t.left_out), removed] = True
        theta = _start(t.seed).expand(t.left_out + 1, -1).clone()
        first, second = torch.zeros_like(theta), torch.zeros_like(theta)
        saved: list[Saved] = []
        gradient = vmap(grad(_loss_without), in_dims=(0, None, None, None, 0))
        batches = _batches(t, numbers)
        for step in range(t.steps):
            rows = batches[step]
            batch = self.pool[rows]
            slope = gradient(theta, batch.images, batch.tokens, batch.ids, absent[:, rows])
            preconditioner = None
            if t.optimizer == "adam":
                first = BETA1 * first + (1 - BETA1) * slope
                second = BETA2 * second + (1 - BETA2) * slope**2
                p = 1 / ((second / (1 - BETA2 ** (step + 1))).sqrt() + EPSILON)
                slope, preconditioner = p * first / (1 - BETA1 ** (step + 1)), p[-1].clone()
            theta = theta - t.lr(step) * slope
            saved.append(Saved(step + 1, theta[-1].clone(), preconditioner))
        nobody = torch.zeros(t.samples, dtype=torch.bool)
        v = self.validation
        losses = torch.stack([_loss_without(one, v.images, v.tokens, v.ids, nobody) for one in theta])
        return Outcome(saved, removed, losses[:-1] - losses[-1])


def _captions(images: Tensor, classes: Tensor, numbers: torch.Generator) -> Tensor:
    """Return (n, 20): the class, noise, and the brightness of the four quarters, which only this image has right."""
    noise = 0.3 * torch.randn(len(images), 6, generator=numbers, dtype=images.dtype)
    quarters = images.view(-1, 2, 4, 2, 4).mean((2, 4)).flatten(1)
    return torch.cat([torch.nn.functional.one_hot(classes, 10).to(images), noise, 3 * quarters], 1)


def _start(seed: int) -> Tensor:
    numbers = torch.Generator().manual_seed(seed + 2)
    parts = {}
    for name, shape in SHAPES.items():
        drawn = torch.randn(shape, generator=numbers, dtype=torch.float64)
        parts[name] = drawn / shape[0] ** 0.5 if len(shape) == 2 else torch.zeros(shape, dtype=torch.float64)
    parts["log_scale"] = torch.tensor(2.0, dtype=torch.float64)
    return LAYOUT.flatten(parts)


def _batches(training: Training, numbers: torch.Generator) -> list[Tensor]:
    per_epoch = training.samples // training.batch_size
    epochs = -(-training.steps // per_epoch)
    orders = [torch.randperm(training.samples, generator=numbers) for _ in range(epochs)]
    return [rows for order in orders for rows in order.split(training.batch_size)]


def _loss_without(theta: Tensor, images: Tensor, tokens: Tensor, ids: Tensor, absent: Tensor) -> Tensor:
    """Return the contrastive loss of a batch in which the absent samples (n,) are neither samples nor negatives."""
    encoded = encode(theta, Pairs(images, tokens, ids, ids))
    masked = torch.eye(len(images), dtype=torch.bool) | absent[None, :]
    return (sample_losses(encoded, encoded, masked, LossKind.INFO_NCE) * ~absent).sum() / len(images)
