"""Modules other than CLIP, as a user of `diffin` brings them: every estimator against the float64 reference."""

import doctest
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

import diffin
from diffin.accuracy import agreement
from diffin.adjoint import LANCZOS_STEPS, Segment
from diffin.batch_loss import MeanLoss
from diffin.module import FunctionalModule
from diffin.prepare import Checkpoint, Problem, influence_directions, local_directions, prepare, total
from diffin.samples import ModuleLosses
from tests.diffin import oracle as oracle

pytestmark = pytest.mark.slow

Batch = tuple[Tensor, Tensor]
N_SAMPLES, STEPS, LRS, LR_SUMS = 640.0, (40.0, 80.0), (0.05, 0.02), (0.6, 0.4)
ESTIMATORS = ("diffin", "diffin_eq9", "tracin")


class Language(nn.Module):
    """A causal transformer whose embedding is its output layer too; its mask is not persistent."""

    def __init__(self, vocabulary: int = 11, width: int = 8, length: int = 6) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.block = nn.TransformerEncoderLayer(width, 2, 16, activation="gelu", batch_first=True)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embedding.weight
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.block(self.embedding(tokens), src_mask=self.mask))


class NarrowResNet18(ResNet):
    """torchvision's ResNet-18 at an eighth of its width."""

    def __init__(self) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=10)
        self.fc = nn.Linear(64, 10)

    def _make_layer(self, block: Any, planes: int, *args: Any, **kwargs: Any) -> nn.Sequential:
        return super()._make_layer(block, planes // 8, *args, **kwargs)


@dataclass(frozen=True)
class Task:
    """A module, its data, and the loss of a sample."""

    net: FunctionalModule
    data: Batch

    def losses(self, theta: Tensor, batch: Batch) -> Tensor:
        inputs, labels = batch
        logits = self.net(theta, inputs.to(theta.dtype) if inputs.is_floating_point() else inputs)
        if labels.ndim == 2:  # the mean over a sequence's tokens
            return F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1)
        return F.cross_entropy(logits, labels, reduction="none")

    def batch(self, start: int, stop: int) -> Batch:
        return self.data[0][start:stop], self.data[1][start:stop]

    def mean(self, start: int, stop: int) -> MeanLoss:
        middle = (start + stop) // 2
        return MeanLoss(self.losses, [self.batch(start, middle), self.batch(middle, stop)], stop - start)

    def loss(self, start: int, stop: int) -> oracle.Loss:
        return lambda theta: self.losses(theta, self.batch(start, stop)).mean()


def mlp() -> Task:
    net = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 10), nn.GELU(), nn.Linear(10, 4)).eval()
    return Task(FunctionalModule.of(net), (torch.randn(32, 6), torch.randint(0, 4, (32,))))


def language() -> Task:
    tokens = torch.randint(0, 11, (32, 7))
    return Task(FunctionalModule.of(Language().eval()), (tokens[:, :-1], tokens[:, 1:]))


def resnet() -> Task:
    net = NarrowResNet18()
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.3, 0.3)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return Task(FunctionalModule.of(net.eval()), (torch.randn(32, 3, 16, 16), torch.randint(0, 10, (32,))))


MINIBATCHES, REFERENCE, TARGET, PROBES = ((0, 4), (4, 8)), (0, 10), (10, 20), (20, 32)


def two_checkpoints(task: Task, dtype: torch.dtype, validation: bool) -> list[Checkpoint]:
    generator = torch.Generator().manual_seed(5)
    theta = task.net.theta.to(dtype)
    moved = theta + 0.01 * torch.randn(theta.shape, generator=generator).to(dtype)
    preconditioner = 0.5 + torch.rand(theta.shape, generator=generator).to(dtype)
    minibatches = [task.mean(*rows) for rows in MINIBATCHES]
    segments = [Segment(theta, LR_SUMS[0], minibatches), Segment(moved, LR_SUMS[1], minibatches, preconditioner)]
    target = task.mean(*TARGET) if validation else None
    losses = ModuleLosses(task.losses)
    return [
        Checkpoint(segment, step, lr, task.mean(*REFERENCE), target, losses, losses)
        for segment, step, lr in zip(segments, STEPS, LRS, strict=True)
    ]


def fast_scores(task: Task, checkpoints: Sequence[Checkpoint], estimators: tuple[str, ...]) -> dict[str, Tensor]:
    probes = task.batch(*PROBES)
    problem = Problem(probes, probes, estimators, N_SAMPLES)
    influence = influence_directions(problem, checkpoints) or [None] * len(checkpoints)
    terms = []
    for checkpoint, r in zip(checkpoints, influence, strict=True):
        directions = local_directions(problem, checkpoint) | ({} if r is None else {"influence": r})
        terms.append(prepare(problem, checkpoint, directions, len(checkpoints), centre=False).fast)
    return total(terms)


def exact_scores(
    task: Task, checkpoints: Sequence[Checkpoint], validation: bool, estimators: tuple[str, ...]
) -> dict[str, Tensor]:
    reference = task.loss(*REFERENCE)
    target = task.loss(*TARGET) if validation else reference
    samples = [task.loss(row, row + 1) for row in range(*PROBES)]
    plain = [
        oracle.ReferenceCheckpoint(c.segment.theta.double(), c.step, c.lr, c.segment.lr_sum, []) for c in checkpoints
    ]
    compute = {
        "diffin": lambda: diffin_by_products(task, samples, target, checkpoints),
        "diffin_eq9": lambda: oracle.diffin_eq9(samples, reference, target, plain, N_SAMPLES),
        "tracin": lambda: oracle.tracin(samples, target, plain, N_SAMPLES),
    }
    return {name: compute[name]() for name in estimators}


def diffin_by_products(
    task: Task, samples: Sequence[oracle.Loss], target: oracle.Loss, checkpoints: Sequence[Checkpoint]
) -> Tensor:
    """The reference's `diffin` without a dense Hessian: products give its projection onto span(y, A y, A^2 y)."""
    u = oracle.gradient(target, checkpoints[-1].segment.theta.double())
    scores = torch.zeros(len(samples), dtype=torch.float64)
    for segment in (c.segment for c in reversed(checkpoints)):
        theta, r = segment.theta.double(), torch.zeros_like(u)
        root = torch.ones_like(u) if segment.preconditioner is None else segment.preconditioner.double().sqrt()
        share = segment.lr_sum / len(MINIBATCHES)
        for rows in reversed(MINIBATCHES):
            values, vectors = ritz_pairs(task.loss(*rows), theta, root, u)
            inner = vectors.T @ (root * u)
            phi = torch.where(values * share < 1e-12, share, -torch.expm1(-share * values) / values)
            r += root * (vectors @ (phi * inner))
            u = (vectors @ ((-share * values).exp() * inner)) / root
        scores += torch.stack([r @ oracle.gradient(sample, theta) for sample in samples])
    return scores / N_SAMPLES


def ritz_pairs(loss: oracle.Loss, theta: Tensor, root: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues (k,), clamped at 0, and vectors (p, k) of P^1/2 H P^1/2 in its Krylov space of P^1/2 u."""

    def product(vector: Tensor) -> Tensor:
        return root * oracle.hvp(loss, theta, root * vector)

    powers = [root * u / (root * u).norm()]
    for _ in range(LANCZOS_STEPS - 1):
        image = product(powers[-1])
        powers.append(image / image.norm())
    basis = torch.linalg.qr(torch.stack(powers, 1))[0]
    projected = basis.T @ torch.stack([product(column) for column in basis.T], 1)
    values, vectors = torch.linalg.eigh((projected + projected.T) / 2)
    return values.clamp_min(0), basis @ vectors


def check(make: Any, dtype: torch.dtype, validation: bool, estimators: tuple[str, ...], error: float = 1e-2) -> None:
    torch.manual_seed(0)
    task = make()
    checkpoints = two_checkpoints(task, dtype, validation)
    fast = fast_scores(task, checkpoints, estimators)
    exact = exact_scores(task, checkpoints, validation, estimators)
    assert fast.keys() == set(estimators)
    for name in estimators:
        found = agreement(fast[name], exact[name])
        assert found.spearman is not None
        assert found.spearman >= 0.99, (name, found)
        assert found.worst_relative_error <= error, (name, found)


@pytest.mark.parametrize("validation", [False, True], ids=["training", "validation"])
@pytest.mark.parametrize("make", [mlp, language])
def test_smooth_modules_agree_with_the_reference_in_float32(make: Any, validation: bool) -> None:
    check(make, torch.float32, validation, ESTIMATORS)


def test_first_derivatives_of_a_resnet_agree_in_float32() -> None:
    check(resnet, torch.float32, False, ("diffin",))
    check(resnet, torch.float32, True, ("tracin",))


@pytest.mark.parametrize(
    "validation", [pytest.param(False, marks=pytest.mark.slow), True], ids=["training", "validation"]
)
def test_second_derivatives_of_a_resnet_need_float64(validation: bool) -> None:
    """ReLU's kinks: a float32 step meets them, a float64 step is short enough to meet none."""
    check(resnet, torch.float64, validation, ESTIMATORS, 1e-3)


def test_a_module_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="BatchNorm1d is in training mode"):
        FunctionalModule.of(nn.BatchNorm1d(3))


def test_a_tied_weight_counts_once_and_moves_in_both_places() -> None:
    torch.manual_seed(0)
    module = Language().eval()
    net, tokens = FunctionalModule.of(module), torch.randint(0, 11, (3, 6))
    assert net.layout.size == sum(p.numel() for p in module.parameters())
    before = net.theta
    moved = before + 0.1
    other = Language().eval()
    other.load_state_dict({name: value + 0.1 for name, value in module.state_dict().items()})
    torch.testing.assert_close(net(moved, tokens), other(tokens))
    assert torch.equal(net.theta, before)


def test_float64_reaches_every_buffer() -> None:
    torch.manual_seed(0)
    task = resnet()
    images = task.data[0][:4]
    plain = task.net.module(images)
    double = task.net(task.net.theta.double(), images.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), plain, rtol=1e-4, atol=1e-5)
    assert {b.dtype for b in task.net.module.buffers()} == {torch.float32, torch.int64}


def test_the_example_of_the_package_runs() -> None:
    found = doctest.testmod(diffin)
    assert found.attempted > 10
    assert found.failed == 0
