"""A narrow ResNet-18 on 5,000 images of CIFAR-10: the paper's first experiment, at a size that a CPU trains.

Trained from scratch this network is chaotic: moving its first weights by a millionth changes the last loss as much as
leaving a sample out does. So all trainings go on from one that has seen every image for three epochs, and hold batch
normalisation's statistics still, as in fine-tuning. They run one by one, over processes, in float32.
"""

import io
import multiprocessing
import os
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.retraining.digits import Labelled
from benchmarks.retraining.training import Saved, Training
from diffin.batch_loss import MeanLoss
from diffin.layout import Layout
from diffin.samples import ModuleLosses

WIDTH = 8
VALIDATION = 1000
SAVES = 5
WARM = Training("sgd", 0.05, 234, 64, 5000, 0)
"""The training that all others go on from; its steps are in no score and nothing is left out of it."""


class Block(nn.Module):
    """ResNet's basic block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.way = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.way(x) + self.shortcut(x))


def resnet18(width: int = WIDTH) -> nn.Sequential:
    """Return ResNet-18 with `width` channels instead of 64 in its first stage, and one strided convolution as stem."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    inputs = width
    for stage in range(4):
        for stride in (2 if stage else 1, 1):
            layers.append(Block(inputs, width << stage, stride))
            inputs = width << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


@dataclass(frozen=True)
class ResnetProblem:
    """The classifier, and where its trainings start: weights and statistics."""

    training: Training
    start: Saved
    pool: Labelled
    validation: Labelled
    processes: int

    def train(self, training: Training) -> tuple[list[Saved], Tensor]:
        """Return the training with all samples at its start and after each fifth, and L_V (K + 1,) of all trainings."""
        saved = fine_tune(self.start, self.pool, training)
        one = partial(_loss_without, self)
        groups = training.groups().tolist()
        if self.processes == 1:
            losses = [one(training, group) for group in groups]
        else:
            with ProcessPoolExecutor(self.processes, multiprocessing.get_context("spawn"), _one_thread) as pool:
                losses = list(pool.map(partial(one, training), groups))
        return saved, torch.tensor([*losses, self.validation_loss(saved[-1])], dtype=torch.float64)

    def validation_loss(self, saved: Saved) -> float:
        return float(_losses(saved)(saved.theta, self.validation).mean().detach())

    def loss(self, saved: Saved, batch: Labelled) -> MeanLoss:
        return MeanLoss(_losses(saved), [batch], len(batch))

    def samples(self, saved: Saved, reference: Labelled) -> ModuleLosses:
        return ModuleLosses(_losses(saved))

    def clip_score(self, saved: Saved, batch: Labelled) -> None:
        return None


def resnet(training: Training, folder: Path, processes: int | None = None) -> ResnetProblem:
    """Return the problem on CIFAR-10 in WebDataset shards (members jpg and cls) below `folder`."""
    whole = read_cifar(folder, training.samples + VALIDATION)
    cut = training.samples
    start = warm(whole[:cut], replace(WARM, seed=training.seed))
    return ResnetProblem(training, start, whole[:cut], whole[cut:], processes or os.cpu_count() or 1)


def read_cifar(folder: Path, count: int) -> Labelled:
    """Return the first images of the shards, float64 (n, 3, 32, 32), -1 to 1.

    Raises:
        FileNotFoundError: there are fewer.
    """
    images, classes = [], []
    for path in sorted(folder.rglob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                data = tar.extractfile(member)
                if data is not None and member.name.endswith(".jpg"):
                    images.append(np.asarray(Image.open(io.BytesIO(data.read())).convert("RGB")))
                elif data is not None and member.name.endswith(".cls"):
                    classes.append(int(data.read()))
        if len(classes) >= count:
            pixels = torch.from_numpy(np.stack(images[:count])).double().permute(0, 3, 1, 2).contiguous()
            return Labelled(pixels / 127.5 - 1, torch.tensor(classes[:count]))
    raise FileNotFoundError(f"{folder}: {len(classes)} images of CIFAR-10 in tar files, but {count} are needed")


def _losses(saved: Saved):
    """Return (theta (p,), batch) -> (n,): in eval mode, with the running statistics of the checkpoint, in float64."""
    model = resnet18().double().eval()
    layout = Layout.of(dict(model.named_parameters()))

    def losses(theta: Tensor, batch: Any) -> Tensor:
        logits = functional_call(model, layout.unflatten(theta) | saved.fixed, (batch.images,))
        return F.cross_entropy(logits, batch.classes, reduction="none")

    return losses


def warm(pool: Labelled, training: Training) -> Saved:
    """Train from scratch, with the statistics of each minibatch."""
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        model = resnet18().train()
    for _ in _steps(model, pool, training, []):
        pass
    return _saved(model, 0)


def fine_tune(start: Saved, pool: Labelled, training: Training, without: Sequence[int] = ()) -> list[Saved]:
    """Return the start, and the model after each fifth of a training without some rows of the pool."""
    model = resnet18()
    layout = Layout.of(dict(model.named_parameters()))
    model.load_state_dict(layout.unflatten(start.theta) | start.fixed)
    apart = training.steps // SAVES
    steps = _steps(model.eval(), pool, training, without)
    return [start, *(_saved(model, step) for step in steps if step % apart == 0)]


def _steps(model: nn.Module, pool: Labelled, training: Training, without: Sequence[int]) -> Iterator[int]:
    """Do one step after the other and yield how many are done."""
    images, absent, weights = pool.images.float(), torch.tensor(without, dtype=torch.long), list(model.parameters())
    for step, rows in enumerate(training.minibatches()):
        here = rows[~torch.isin(rows, absent)]
        loss = F.cross_entropy(model(images[here]), pool.classes[here], reduction="sum") / len(rows)
        for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.data.sub_(training.lr(step) * slope)
        yield step + 1


def _loss_without(problem: ResnetProblem, training: Training, without: list[int]) -> float:
    return problem.validation_loss(fine_tune(problem.start, problem.pool, training, without)[-1])


def _saved(model: nn.Module, step: int) -> Saved:
    values = {name: value.detach().clone().double() for name, value in model.named_parameters()}
    fixed = {name: value.clone() for name, value in model.named_buffers()}
    fixed = {name: value.double() if value.is_floating_point() else value for name, value in fixed.items()}
    return Saved(step, Layout.of(values).flatten(values), None, fixed)


def _one_thread() -> None:
    torch.set_num_threads(1)
