"""Every estimator, fast and in float32, against the float64 reference on a tiny open_clip model."""

import dataclasses

import pytest
import torch

from diffin.accuracy import agreement
from diffin.adjoint import LANCZOS_STEPS, Segment, adjoint
from diffin.contrastive import LossKind, Pairs, batch_loss, masked_members, sample_losses
from diffin.prepare import Checkpoint, Problem, influence_directions, local_directions, prepare, total
from tests.diffin import oracle as oracle

N_SAMPLES = 640.0
STEPS, LRS, LR_SUMS = (40.0, 80.0), (0.05, 0.02), (2.0, 1.4)
ESTIMATORS = ("diffin", "diffin_eq9", "tracin")


def halves(clip) -> list[Pairs]:
    """Two minibatches."""
    return [clip.reference[:12], clip.reference[12:]]


def two_checkpoints(clip, validation=None) -> list[Checkpoint]:
    generator = torch.Generator().manual_seed(5)
    moved = clip.theta + 0.01 * torch.randn(clip.theta.shape, generator=generator)
    preconditioner = 0.5 + torch.rand(clip.theta.shape, generator=generator)
    preconditioner[::20] = 0  # what training never moves
    reference = clip.batch(clip.reference, batch_size=16)
    minibatches = [clip.batch(pairs) for pairs in halves(clip)]
    segments = [Segment(clip.theta, LR_SUMS[0], minibatches), Segment(moved, LR_SUMS[1], minibatches, preconditioner)]
    target = None if validation is None else clip.batch(validation)
    return [
        Checkpoint(s, t, lr, reference, target, clip.losses(), clip.losses())
        for s, t, lr in zip(segments, STEPS, LRS, strict=True)
    ]


def fast_scores(checkpoints, probes, estimators=ESTIMATORS) -> dict[str, torch.Tensor]:
    problem = Problem(
        probes=probes,
        probes64=probes,
        estimators=estimators,
        n_samples=N_SAMPLES,
    )
    influence = influence_directions(problem, checkpoints) or [None] * len(checkpoints)
    terms = []
    for checkpoint, r in zip(checkpoints, influence, strict=True):
        directions = local_directions(problem, checkpoint) | ({} if r is None else {"influence": r})
        terms.append(prepare(problem, checkpoint, directions, len(checkpoints), centre=True).fast)
    return total(terms)


def whole(clip, pairs):
    masked = masked_members(pairs, pairs)
    return lambda theta: batch_loss(clip.encode(theta, pairs), masked, clip.kind)


def one(clip, single):
    masked = masked_members(single, clip.reference)
    return lambda theta: sample_losses(
        clip.encode(theta, single), clip.encode(theta, clip.reference), masked, clip.kind
    )[0]


@pytest.fixture(scope="module")
def dense(clip) -> list[oracle.ReferenceCheckpoint]:
    """The checkpoints with the whole Hessians of their minibatches, the slow part, once a model."""
    return [
        oracle.ReferenceCheckpoint(
            c.segment.theta.double(),
            c.step,
            c.lr,
            c.segment.lr_sum,
            [oracle.hessian(whole(clip, pairs), c.segment.theta.double()) for pairs in halves(clip)],
            None if c.segment.preconditioner is None else c.segment.preconditioner.double(),
        )
        for c in two_checkpoints(clip)
    ]


def exact_scores(clip, dense, probes, validation) -> dict[str, torch.Tensor]:
    reference = whole(clip, clip.reference)
    target = reference if validation is None else whole(clip, validation)
    samples = [one(clip, probes[i : i + 1]) for i in range(len(probes))]
    return {
        "diffin": oracle.diffin(samples, target, dense, N_SAMPLES, LANCZOS_STEPS),
        "diffin_eq9": oracle.diffin_eq9(samples, reference, target, dense, N_SAMPLES),
        "tracin": oracle.tracin(samples, target, dense, N_SAMPLES),
    }


@pytest.mark.parametrize(
    "clip", [LossKind.INFO_NCE, pytest.param(LossKind.SIGLIP, marks=pytest.mark.slow)], indirect=True
)
@pytest.mark.parametrize("target", ["training", "validation"])
def test_fast_scores_agree_with_the_float64_reference(clip, dense, pairs, target):
    probes = pairs(24, 1000, seed=3)
    validation = pairs(20, 2000, seed=4) if target == "validation" else None
    fast = fast_scores(two_checkpoints(clip, validation), probes)
    exact = exact_scores(clip, dense, probes, validation)
    for name in ESTIMATORS:
        found = agreement(fast[name], exact[name])
        assert found.spearman >= 0.999, (name, found)
        assert found.worst_relative_error <= 1e-2, (name, found)


@pytest.mark.parametrize("target", ["training", "validation"])
def test_the_two_terms_of_eq9_apart(clip, pairs, target):
    """<v, H_B G_z> is D_w l_z, w = H_B v, and <v, H_z G_B> is D_v D_b l_z: without w the bracket is that alone."""
    checkpoint = two_checkpoints(clip, pairs(20, 2000, seed=4) if target == "validation" else None)[0]
    probes, estimators = pairs(24, 1000, seed=3), ("diffin", "diffin_eq9")
    problem = Problem(probes=probes, probes64=probes, estimators=estimators, n_samples=N_SAMPLES)
    directions = local_directions(problem, checkpoint)
    directions |= {"influence": directions["bend"], "bend": torch.zeros_like(directions["bend"])}
    fast = prepare(problem, checkpoint, directions, checkpoints=1, centre=False).fast
    reference = whole(clip, clip.reference)
    aim = reference if target == "training" else whole(clip, pairs(20, 2000, seed=4))
    samples = [one(clip, probes[i : i + 1]) for i in range(len(probes))]
    exact = torch.tensor([oracle.eq9_terms(s, reference, aim, clip.theta.double()) for s in samples])
    first = agreement(N_SAMPLES * fast["diffin"], exact[:, 0])
    second = agreement(-N_SAMPLES / (STEPS[0] * LRS[0] ** 2) * fast["diffin_eq9"], exact[:, 1])
    assert first.worst_relative_error <= 1e-2
    assert second.worst_relative_error <= 1e-2


def test_tracin_alone_needs_no_gradient_of_the_reference(clip, pairs):
    probes, validation = pairs(16, 1000, seed=3), pairs(20, 2000, seed=4)
    checkpoints = two_checkpoints(clip, validation)
    fast = fast_scores(checkpoints, probes, ("tracin",))
    samples = [one(clip, probes[i : i + 1]) for i in range(len(probes))]
    plain = [oracle.ReferenceCheckpoint(c.segment.theta.double(), c.step, c.lr, 1.0, []) for c in checkpoints]
    found = agreement(fast["tracin"], oracle.tracin(samples, whole(clip, validation), plain, N_SAMPLES))
    assert fast.keys() == {"tracin"}
    assert found.worst_relative_error <= 1e-2


@pytest.mark.slow
@pytest.mark.parametrize(
    "clip", [LossKind.INFO_NCE, pytest.param(LossKind.SIGLIP, marks=pytest.mark.slow)], indirect=True
)
def test_the_adjoint_is_the_recursion_run_forwards(clip, dense, pairs):
    """<grad L_V, I^T> of the recursion itself equals the adjoint's score, where H is made positive semi-definite."""
    sample = one(clip, pairs(1, 1000, seed=3))
    target = whole(clip, clip.reference)
    convex = [dataclasses.replace(c, hessians=[h @ h / h.norm() ** 2 for h in c.hessians]) for c in dense]
    influence = oracle.recursion(sample, convex, N_SAMPLES, substeps=150)
    forwards = oracle.gradient(target, convex[-1].theta) @ influence
    torch.testing.assert_close(oracle.diffin([sample], target, convex, N_SAMPLES)[0], forwards, rtol=2e-2, atol=0)


def test_a_target_where_training_moves_nothing_changes_no_direction_elsewhere(clip, pairs):
    segments = [c.segment for c in two_checkpoints(clip)]
    still = segments[-1].preconditioner == 0
    target = torch.randn(clip.theta.shape, generator=torch.Generator().manual_seed(6))
    spoilt = torch.where(still, 1e6 * target, target)
    plain, found = (adjoint(segments[-1:], u)[0] for u in (target, spoilt))
    torch.testing.assert_close(found, plain, rtol=0, atol=0)
    assert not found[still].any()
