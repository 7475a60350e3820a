"""Self-influence as a score: tracin's, by slopes along a few vectors of random signs, the same for all workers."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from coreset.schemas.plan import Plan
from diffin.self_influence import SIGN, signs

VECTORS = 16
"""K: the relative error of a sample's self-influence is about sqrt(2 / K), 35 %. Its price is 2 K passes a sample and
checkpoint. On digits with wrong labels the ranking by 16 was about as good as the exact one (docs/method.md)."""


def frame(plan: Plan, size: int, device: torch.device) -> Tensor:
    """Return the vectors (VECTORS, p) int8 of a plan; the same at every checkpoint."""
    return signs(VECTORS, size, plan.reference_seed).to(device)


def own_factor(plan: Plan, lr: float) -> float:
    """Return what a checkpoint's mean of (D_xi l_z)^2 counts in the score: -eta / N, since higher means keep."""
    return -lr / plan.n_samples.value


def self_influence(plan: Plan, terms: Mapping[str, Sequence[Tensor]]) -> Tensor:
    """Return the score (n,) from the slopes (n,) along each vector, by checkpoint."""
    total = torch.zeros(())
    for index, checkpoint in enumerate(plan.checkpoints):
        slopes = torch.stack([each[index] for name, each in terms.items() if name.startswith(SIGN)])
        total = total + own_factor(plan, checkpoint.lr.value) * slopes.square().mean(0)
    return total
