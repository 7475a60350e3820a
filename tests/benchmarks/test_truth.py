"""The truth benchmark, small: what is left out is really out, and influence foretells it on a smooth training."""

import numpy as np
import pytest
import torch

from benchmarks.truth import agreement, scores
from benchmarks.two_towers import LAYOUT, Problem, Training, _loss_without, encode
from diffin.contrastive import batch_loss, masked_members

SMALL = Training("sgd", 0.1, steps=40, samples=128, left_out=24)


def test_an_absent_sample_is_neither_sample_nor_negative() -> None:
    theta = torch.randn(LAYOUT.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 8
    batch = Problem(SMALL).pool[torch.arange(12)]
    absent = torch.zeros(12, dtype=torch.bool)
    absent[5] = True
    rest = batch[~absent]
    alone = batch_loss(encode(theta, rest), masked_members(rest, rest), Problem(SMALL).loss(rest).kind)
    without = _loss_without(theta, batch.images, batch.tokens, batch.ids, absent)
    torch.testing.assert_close(without, alone * 11 / 12)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_diffin_foretells_leaving_one_out(optimizer: str) -> None:
    problem = Problem(Training(optimizer, 0.1 if optimizer == "sgd" else 0.003, 40, samples=128, left_out=24))
    outcome = problem.train()
    found = agreement(scores(problem, outcome)["diffin"].numpy(), outcome.truth.numpy())
    assert isinstance(found["pearson"], float)
    assert found["pearson"] > 0.7
    low, high = np.array(found["pearson_95"])
    assert low <= found["pearson"] <= high
