"""A small contrastive model on images of digits whose captions say the class and what only this image has."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from benchmarks.retraining.contrastive import ContrastiveProblem
from benchmarks.retraining.training import Training
from diffin.contrastive import Encoded, Pairs
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


def encode(theta: Tensor, pairs: Pairs) -> Encoded:
    """Return the embeddings of pairs whose images are (n, 64) and whose captions are vectors (n, 20)."""
    p = LAYOUT.unflatten(theta)
    towers = []
    for name, inputs in (("image", pairs.images), ("text", pairs.tokens)):
        hidden = torch.tanh(inputs @ p[f"{name}.in"] + p[f"{name}.bias"])
        towers.append(torch.nn.functional.normalize(hidden @ p[f"{name}.out"], dim=-1))
    return Encoded(towers[0], towers[1], p["log_scale"].exp(), torch.zeros_like(p["log_scale"]))


def two_towers(training: Training) -> ContrastiveProblem:
    """Return the pool, 20 % of its captions swapped among each other, and as many sound validation pairs."""
    numbers = torch.Generator().manual_seed(training.seed)
    pixels, classes = (torch.tensor(np.asarray(array)) for array in load_digits(return_X_y=True))
    order = torch.randperm(len(classes), generator=numbers)[: 2 * training.samples]
    images = pixels[order] / 16 - 0.3
    captions = _captions(images, classes[order], numbers)
    pool, validation = images.split(training.samples), captions.split(training.samples)
    swapped = torch.rand(training.samples, generator=numbers) < MISMATCHED
    given = validation[0].clone()
    given[swapped] = given[swapped][torch.randperm(int(swapped.sum()), generator=numbers)]
    ids = torch.arange(training.samples)
    pairs = (Pairs(pool[0], given, ids, ids), Pairs(pool[1], validation[1], ids, ids))
    wrong = (given != validation[0]).any(1)
    return ContrastiveProblem(training, encode, _start(training.seed), *pairs, wrong)


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
