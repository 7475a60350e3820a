"""All batches have one size; those that do not fit are halved, and what was done is not done again."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coreset_workers.model.batches import Batches
from diffin.contrastive import Pairs

CPU = torch.device("cpu")
TOO_MUCH = 2**60
"""Bytes that the real allocator refuses."""


def pairs(count: int) -> Pairs:
    rows = torch.arange(count)
    return Pairs(rows[:, None], rows[:, None], rows, rows)


@given(st.integers(1, 40), st.integers(1, 16), st.integers(1, 16))
def test_every_pair_comes_once_in_order_whatever_fits(count: int, size: int, fits: int) -> None:
    batches, shares = Batches(CPU, size), []

    def work(batch: Pairs) -> torch.Tensor:
        assert len(batch) == batches.size
        torch.empty(TOO_MUCH if len(batch) > fits else 1, dtype=torch.uint8)
        return batch.ids

    found = torch.cat(batches.map(pairs(count), work, shares.append))
    assert torch.equal(found[:count], torch.arange(count))
    assert torch.all(found[count:] == count - 1)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert batches.size <= size
    assert batches.size <= fits


def test_one_pair_that_does_not_fit_is_an_error() -> None:
    batches = Batches(CPU, 4)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        batches.map(pairs(3), lambda batch: torch.empty(TOO_MUCH, dtype=torch.uint8), lambda share: None)
    assert batches.size == 1


def test_another_error_is_not_taken_for_want_of_memory() -> None:
    batches = Batches(CPU, 4)
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        batches.map(pairs(3), lambda batch: batch.ids.float() @ torch.zeros(5), lambda share: None)
    assert batches.size == 4
