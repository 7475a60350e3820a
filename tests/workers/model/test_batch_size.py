"""The batch size: the largest that fits, and how much memory is free."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coreset_workers.model import batch_size as memory
from coreset_workers.model.clip import ClipModel
from coreset_workers.model.meta_device import Shadow, peak_bytes


@given(each=st.floats(1, 1e9), budget=st.floats(0, 1e12))
def test_the_batch_is_the_largest_power_of_two_that_fits(each: float, budget: float) -> None:
    size = memory.largest_batch(each, budget, 64)
    assert size in (1, 2, 4, 8, 16, 32, 64)
    assert size == 1 or size * each <= budget
    assert size == 64 or 2 * size * each > budget


@given(each=st.floats(1, 1e9), free=st.floats(0, 1e12))
def test_a_batch_that_scores_is_no_smaller_than_16_where_16_fit(each: float, free: float) -> None:
    size = memory.scoring_batch(each, free, 64)
    assert size in (1, 2, 4, 8, 16, 32, 64)
    assert size >= 16 or 16 * each > free
    assert size == 1 or size * each <= free
    assert size <= 16 or size * each <= free / 2
    assert size == 64 or 2 * size * each > free / 2


def test_a_model_gets_the_batch_whose_activations_fit(tiny: ClipModel) -> None:
    each = memory.bytes_a_sample(Shadow.of(tiny), 24)
    assert memory.batch_size(tiny, 24, free=round(2 * 33 * each)) == 32
    assert memory.batch_size(tiny, 24, free=round(17 * each)) == 16
    assert memory.batch_size(tiny, 24, free=round(9 * each)) == 8
    assert memory.batch_size(tiny, 24, free=0) == 1
    assert memory.batch_size(tiny, 24) == 64  # a tiny one on any machine


def test_free_memory_is_no_more_than_the_machine_has() -> None:
    assert 0 < memory.free_bytes(torch.device("cpu")) <= memory._available() * 1.1


def test_a_container_has_what_its_group_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, used = tmp_path / "max", tmp_path / "current"
    monkeypatch.setattr(memory, "CGROUPS", ((limit, used), (tmp_path / "nothing", used)))
    limit.write_text("3000\n")
    used.write_text("1000\n")
    assert memory.free_bytes(torch.device("cpu")) == 2000
    limit.write_text("max\n")
    assert memory.free_bytes(torch.device("cpu")) > 2000


@pytest.mark.slow
def test_a_hessian_vector_product_holds_the_graphs_that_fit(tiny: ClipModel) -> None:
    shadow = Shadow.of(tiny)
    eight = peak_bytes(shadow.product(8))
    size = memory.graph_samples(tiny, free=round(2 * memory.MEMORY_IN_PIECES * eight))
    assert size == 8
    assert memory.graph_samples(tiny, free=0) == 1
    assert memory.graph_samples(tiny) == 64


def test_a_split_minibatch_takes_what_is_said_for_its_pieces(tiny: ClipModel) -> None:
    shadow = Shadow.of(tiny)
    whole, split = (peak_bytes(shadow.product(size)) for size in (64, 65))
    assert split <= 1.1 * memory.MEMORY_IN_PIECES * whole
