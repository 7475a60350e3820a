"""The sample's loss: against open_clip's own losses, and its masks."""

import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from diffin.contrastive import Encoded, LossKind, batch_loss, masked_members, neg_clip_loss, sample_losses


def embed(count: int, seed: int, bias: float = 0.0) -> Encoded:
    generator = torch.Generator().manual_seed(seed)
    image, text = (normalize(torch.randn(count, 7, generator=generator, dtype=torch.float64), dim=1) for _ in "it")
    return Encoded(image, text, torch.tensor(9.0, dtype=torch.float64), torch.tensor(bias, dtype=torch.float64))


def test_info_nce_of_a_batch_is_open_clips():
    e = embed(11, 0)
    ours = batch_loss(e, torch.eye(11, dtype=torch.bool), LossKind.INFO_NCE)
    torch.testing.assert_close(ours, open_clip.ClipLoss()(e.image, e.text, e.scale))


def test_siglip_of_a_batch_is_open_clips():
    e = embed(11, 0, bias=-3.0)
    ours = batch_loss(e, torch.eye(11, dtype=torch.bool), LossKind.SIGLIP)
    torch.testing.assert_close(ours, open_clip.loss.SigLipLoss()(e.image, e.text, e.scale, e.bias))


def test_a_masked_member_does_not_count():
    sample, reference = embed(3, 1), embed(5, 2)
    masked = torch.zeros(3, 5, dtype=torch.bool)
    masked[:, 2] = True
    keep = torch.tensor([0, 1, 3, 4])
    without = Encoded(reference.image[keep], reference.text[keep], reference.scale, reference.bias)
    for kind in LossKind:
        full = sample_losses(sample, reference, masked, kind)
        torch.testing.assert_close(full, sample_losses(sample, without, masked[:, keep], kind))


@pytest.mark.parametrize("kind", list(LossKind))
def test_all_members_masked_leaves_a_finite_loss_and_gradient(kind):
    sample, reference = embed(2, 1), embed(4, 2)
    image = reference.image.clone().requires_grad_()
    moved = Encoded(image, reference.text, reference.scale, reference.bias)
    loss = sample_losses(sample, moved, torch.ones(2, 4, dtype=torch.bool), kind).sum()
    loss.backward()
    assert loss.isfinite()
    assert not image.grad.any()


def test_equal_captions_and_the_sample_itself_are_masked(pairs):
    samples = pairs(8, 0, seed=0)
    masked = masked_members(samples, samples)
    assert masked.diagonal().all()
    assert masked[2, 3]
    assert masked[3, 2]
    assert masked.sum() == 8 + 4


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 99), st.permutations(range(9)))
def test_the_order_of_the_reference_does_not_matter(count, size, seed, order):
    order = torch.tensor([i for i in order if i < size])
    sample, reference = embed(count, seed), embed(size, seed + 1)
    shuffled = Encoded(reference.image[order], reference.text[order], reference.scale, reference.bias)
    masked = torch.rand(count, size, generator=torch.Generator().manual_seed(seed)) < 0.3
    for kind in LossKind:
        torch.testing.assert_close(
            sample_losses(sample, reference, masked, kind), sample_losses(sample, shuffled, masked[:, order], kind)
        )


def test_neg_clip_loss_is_the_published_formula():
    e, reference = embed(4, 3), embed(6, 4)
    tau = 1 / e.scale
    texts = torch.cat([(e.image * e.text).sum(1, keepdim=True), e.image @ reference.text.T], 1)
    images = torch.cat([(e.image * e.text).sum(1, keepdim=True), e.text @ reference.image.T], 1)
    expected = (e.image * e.text).sum(1) - tau / 2 * ((texts / tau).logsumexp(1) + (images / tau).logsumexp(1))
    torch.testing.assert_close(neg_clip_loss(e, reference, torch.zeros(4, 6, dtype=torch.bool)), expected)
