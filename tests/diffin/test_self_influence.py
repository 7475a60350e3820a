"""I(z, z) by random vectors: what it averages to, its error, and that wrong labels stand out.

That its parts are right is tested without chance, by a whole frame, in test_closed_forms.py.
"""

from dataclasses import dataclass, replace

import pytest
import torch
from scipy.stats import mannwhitneyu
from sklearn.datasets import load_digits
from torch import Tensor
from torch.func import grad, vmap

from diffin.adjoint import Segment
from diffin.batch_loss import MeanLoss
from diffin.contrastive import batch_loss, masked_members, sample_losses
from diffin.layout import Layout
from diffin.prepare import Checkpoint, Problem
from diffin.samples import ModuleLosses
from diffin.self_influence import Estimate, self_influence, signs
from tests.diffin import oracle as oracle

HIDDEN = 16
LAYOUT = Layout(("in", "out"), (torch.Size((65, HIDDEN)), torch.Size((HIDDEN + 1, 10))))
SAMPLES, FLIPPED, RATE, STEPS = 400, 0.1, 0.1, (150, 300)


def with_one(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones_like(x[:, :1])], 1)


def cross_entropies(theta: Tensor, batch: Tensor) -> Tensor:
    """Return the losses (n,) of rows of 64 pixels and a class."""
    p = LAYOUT.unflatten(theta)
    hidden = torch.tanh(with_one(batch[:, :-1].to(theta.dtype)) @ p["in"])
    return torch.nn.functional.cross_entropy(with_one(hidden) @ p["out"], batch[:, -1].long(), reduction="none")


@dataclass(frozen=True)
class Digits:
    """Digits, some with a wrong class, and a network at two moments of its training."""

    samples: Tensor
    wrong: Tensor
    checkpoints: list[Checkpoint]


@pytest.fixture(scope="module")
def digits() -> Digits:
    numbers = torch.Generator().manual_seed(0)
    pixels, classes = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    chosen = torch.randperm(len(classes), generator=numbers)[:SAMPLES]
    wrong = torch.rand(SAMPLES, generator=numbers) < FLIPPED
    given = (classes[chosen] + wrong * torch.randint(1, 10, (SAMPLES,), generator=numbers)) % 10
    samples = torch.cat([pixels[chosen] / 16 - 0.3, given[:, None]], 1)
    theta = torch.randn(LAYOUT.size, dtype=torch.float64, generator=numbers) / 8
    loss, checkpoints = MeanLoss(cross_entropies, [samples], SAMPLES), []
    losses = ModuleLosses(cross_entropies)
    for step in range(1, STEPS[-1] + 1):
        theta = theta - RATE * loss.gradient(theta)
        if step in STEPS:
            segment = Segment(theta.float(), RATE * STEPS[0], [loss])
            checkpoints.append(Checkpoint(segment, step, RATE, loss, None, losses, losses))
    return Digits(samples, wrong, checkpoints)


def estimated(digits: Digits, estimator: str, count: int, batch_size: int = 100, seed: int = 0) -> Estimate:
    probes = digits.samples[:32]
    problem = Problem(probes, probes, (estimator,), SAMPLES)
    frame = signs(count, LAYOUT.size, seed)
    return self_influence(problem, digits.checkpoints, digits.samples.split(batch_size), frame, lanczos_steps=5)[
        estimator
    ]


def squared_norms(digits: Digits) -> Tensor:
    """Return tracin's I(z, z) (n,) from the gradient of each sample."""
    one = lambda theta, row: cross_entropies(theta, row[None])[0]  # noqa: E731
    gradients = [vmap(grad(one), (None, 0))(c.segment.theta.double(), digits.samples) for c in digits.checkpoints]
    return RATE / SAMPLES * sum(g.square().sum(1) for g in gradients)


def test_the_error_is_what_it_says_and_falls_with_the_number_of_vectors(digits: Digits) -> None:
    exact, found = squared_norms(digits), estimated(digits, "tracin", count=64)
    relative = (found.value - exact) / exact
    # The two checkpoints have the same vectors, so their errors do not average out much.
    assert float(relative.square().mean().sqrt()) == pytest.approx((2 / 64) ** 0.5, rel=0.35)
    scatter = ((found.value - exact) / found.error).square().mean().sqrt()
    assert float(scatter) == pytest.approx(1, rel=0.35)


@pytest.mark.parametrize(("estimator", "count"), [("tracin", 16), ("diffin", 16)])
def test_wrong_labels_have_a_high_influence_on_themselves(digits: Digits, estimator: str, count: int) -> None:
    value = estimated(digits, estimator, count).value
    sound, wrong = value[~digits.wrong], value[digits.wrong]
    area = mannwhitneyu(wrong, sound).statistic / (len(wrong) * len(sound))
    assert area > 0.9


def test_batches_do_not_matter(digits: Digits) -> None:
    whole = estimated(digits, "tracin", count=2, batch_size=SAMPLES).value
    again = estimated(digits, "tracin", count=2, batch_size=7).value
    torch.testing.assert_close(again, whole, rtol=0, atol=1e-4 * float(whole.max()))


def test_an_idle_segment_counts_nothing(digits: Digits) -> None:
    """Where the learning rates are 0 there is no direction, and no step to calibrate."""
    idle = [replace(c, segment=replace(c.segment, lr_sum=0.0)) for c in digits.checkpoints]
    assert not estimated(replace(digits, checkpoints=idle), "diffin", count=2).value.any()


def test_signs_depend_on_the_seed_alone() -> None:
    first, second = frame = signs(2, 1000, seed=3)
    assert torch.equal(first.abs(), torch.ones_like(first))
    assert abs(int((first * second).sum(dtype=torch.int64))) < 150
    assert torch.equal(signs(2, 1000, seed=3), frame)
    assert not torch.equal(signs(2, 1000, seed=4), frame)


def test_contrastive_samples_agree_with_the_reference_within_their_error(clip, pairs) -> None:
    probes = pairs(12, 1000, seed=3)
    reference = clip.batch(clip.reference)
    segment = Segment(clip.theta, 1.0, [reference])
    checkpoint = Checkpoint(segment, 40.0, 0.05, reference, None, clip.losses(), clip.losses())
    problem = Problem(probes, probes, ("tracin", "diffin_eq9"), 100.0)
    found = self_influence(problem, [checkpoint], [probes[:5], probes[5:]], signs(48, len(clip.theta), seed=1))
    dense = [oracle.ReferenceCheckpoint(clip.theta.double(), 40.0, 0.05, 1.0, [])]

    def one(single):
        masked = masked_members(single, clip.reference)
        encode = clip.encode
        return lambda t: sample_losses(encode(t, single), encode(t, clip.reference), masked, clip.kind)[0]

    masked = masked_members(clip.reference, clip.reference)
    whole = lambda t: batch_loss(clip.encode(t, clip.reference), masked, clip.kind)  # noqa: E731
    samples = [one(probes[i : i + 1]) for i in range(len(probes))]
    exact = {
        "tracin": oracle.on_itself(lambda s, aim: oracle.tracin(s, aim, dense, 100.0), samples),
        "diffin_eq9": oracle.on_itself(lambda s, aim: oracle.diffin_eq9(s, whole, aim, dense, 100.0), samples),
    }
    for name, estimate in found.items():
        away = (estimate.value - exact[name]) / estimate.error
        assert float(away.abs().max()) < 6, name
        assert 0.3 < float(away.square().mean().sqrt()) < 2.5, name
