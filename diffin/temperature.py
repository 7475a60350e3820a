"""The logit scale at which a batch's contrastive loss is lowest, with its embeddings as they are."""

import math

from torch import Tensor

from diffin.contrastive import Encoded, LossKind, cosine, one_way_loss

LARGEST_SCALE = 1000.0
"""Upper bound of the scale; open_clip's trainer keeps it below 100."""

ROUNDS = 40
"""Rounds of the golden-section search: the scale is then known to 1e-5."""


def best_scale(batch: Encoded, masked: Tensor, kind: LossKind) -> tuple[float, Tensor]:
    """Return the scale in [0, LARGEST_SCALE] with the lowest loss of a batch against itself, and that loss ().

    The loss is convex in the scale: a log-sum-exp or softplus of affine functions of it. The bias stays.

    Args:
        masked: (R, R) with a true diagonal.
    """
    own, to_texts, to_images = cosine(batch), batch.image @ batch.text.T, batch.text @ batch.image.T

    def loss(scale: float) -> Tensor:
        pairs = scale * own + batch.bias
        ways = [one_way_loss(pairs, scale * others + batch.bias, masked, kind) for others in (to_texts, to_images)]
        return (ways[0] + ways[1]).mean() / 2

    golden = (math.sqrt(5) - 1) / 2
    low, high = 0.0, LARGEST_SCALE
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(ROUNDS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = loss(right)
    middle = (low + high) / 2
    return middle, loss(middle)
