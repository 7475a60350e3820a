"""The memory estimate against what the allocator hands out, and the batch size that follows from it."""

from collections.abc import Callable
from itertools import accumulate

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from coreset.plan import PlannedModel
from workers import memory
from workers.clip_model import ClipModel

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}


@pytest.fixture(scope="module")
def model() -> ClipModel:
    return ClipModel.build(PlannedModel(name="tiny", config=TINY, source="test"), torch.device("cpu"))


@pytest.fixture(scope="module")
def each(model: ClipModel) -> float:
    return memory.bytes_a_sample(model, 256)


def allocated(work: Callable[[], object]) -> int:
    """Return the most bytes that the CPU allocator had handed out at once while `work` really ran."""
    work()  # what is made once and kept, such as packed weights, is no part of it
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    events = sorted(profiled.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    changes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return max(accumulate(changes))


def test_a_temporary_counts_while_it_lives_and_a_view_never() -> None:
    def work() -> None:
        first = torch.zeros(1000)
        second = first.view(10, 100) + 1  # 8000 bytes alive
        del first
        third = second * 2  # 8000 again
        assert third.shape == (10, 100)

    assert memory.peak_bytes(work) == 8000


def test_a_forward_pass_takes_what_the_allocator_hands_out(model: ClipModel) -> None:
    for samples in (16, 128):
        work = memory.forward(model, samples, 256)
        assert memory.peak_bytes(work) == pytest.approx(allocated(work), rel=0.05), samples


def test_flops_are_those_of_the_shapes() -> None:
    def work() -> None:
        _ = torch.zeros(3, 5) @ torch.zeros(5, 7)

    assert memory.count_flops(work) == 2 * 3 * 5 * 7


@given(free=st.integers(0, 2**40), share=st.floats(0.01, 1))
def test_the_batch_is_the_largest_power_of_two_that_fits(each: float, free: int, share: float) -> None:
    size = memory.largest_batch(each, share * free, 64)
    assert size in (1, 2, 4, 8, 16, 32, 64)
    assert size == 1 or size * each <= share * free
    assert size == 64 or 2 * size * each > share * free


def test_free_memory_is_no_more_than_the_machine_has() -> None:
    assert 0 < memory.free_bytes(torch.device("cpu")) <= memory._available() * 1.1


def test_a_container_has_what_its_group_leaves(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, used = tmp_path / "max", tmp_path / "current"
    monkeypatch.setattr(memory, "CGROUPS", ((limit, used), (tmp_path / "nothing", used)))
    limit.write_text("3000\n")
    used.write_text("1000\n")
    assert memory.free_bytes(torch.device("cpu")) == 2000
    limit.write_text("max\n")
    assert memory.free_bytes(torch.device("cpu")) > 2000
