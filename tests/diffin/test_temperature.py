"""The best logit scale, against a fine grid of scales and torch's own loss of a batch."""

from dataclasses import replace

import pytest
import torch

from diffin.contrastive import Encoded, LossKind, batch_loss
from diffin.temperature import best_scale


@pytest.mark.parametrize("kind", list(LossKind))
@pytest.mark.parametrize("noise", [0.3, 3.0, 100.0])
def test_no_scale_of_a_grid_has_a_lower_loss(kind: LossKind, noise: float) -> None:
    numbers = torch.Generator().manual_seed(1)
    text = torch.randn(12, 6, generator=numbers, dtype=torch.float64)
    image = text + noise * torch.randn(12, 6, generator=numbers, dtype=torch.float64)
    unit = torch.nn.functional.normalize
    bias = torch.tensor(-2.0 if kind is LossKind.SIGLIP else 0.0, dtype=torch.float64)
    batch = Encoded(unit(image), unit(text), torch.tensor(30.0, dtype=torch.float64), bias)
    masked = torch.eye(12, dtype=torch.bool)
    scale, lowest = best_scale(batch, masked, kind)

    def loss(at: float) -> float:
        return float(batch_loss(replace(batch, scale=torch.tensor(at, dtype=torch.float64)), masked, kind))

    assert float(lowest) == pytest.approx(loss(scale), rel=1e-12)
    assert float(lowest) <= min(loss(1000 * (i / 400) ** 3) for i in range(401)) + 1e-6
