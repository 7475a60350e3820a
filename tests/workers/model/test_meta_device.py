"""What is counted on the meta device, against the allocator and against counts by hand."""

from collections.abc import Callable
from itertools import accumulate

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from coreset_workers.model.clip import ClipModel
from coreset_workers.model.meta_device import Shadow, count_flops, peak_bytes
from diffin.autodiff import derivative
from diffin.batch_loss import ContrastiveLoss
from diffin.contrastive import Pairs
from diffin.samples import ContrastiveLosses

R = 96


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
        first = torch.zeros(1000, device="meta")
        second = first.view(10, 100) + 1  # 8000 bytes alive
        del first
        third = second * 2  # 8000 again
        assert third.shape == (10, 100)

    assert peak_bytes(work) == 8000


def pairs(samples: int) -> Pairs:
    numbers = torch.arange(samples)
    images = torch.randint(0, 256, (samples, 3, 32, 32), dtype=torch.uint8)
    return Pairs(images, torch.randint(1, 64, (samples, 24)), numbers, numbers)


def theta(model: ClipModel) -> torch.Tensor:
    return torch.cat([value.detach().reshape(-1) for value in model.module.parameters()])


def test_a_forward_pass_takes_what_the_allocator_hands_out(tiny: ClipModel) -> None:
    def scored(samples: int) -> None:
        losses, batch = ContrastiveLosses(tiny.encoder({}), pairs(R), tiny.kind), pairs(samples)
        with torch.no_grad():
            losses.of(tiny.encoder({})(theta(tiny), batch).double(), context, batch)

    with torch.no_grad():
        context = ContrastiveLosses(tiny.encoder({}), pairs(R), tiny.kind).context(theta(tiny))
    for samples in (16, 128):
        expected = allocated(lambda n=samples: scored(n))
        assert peak_bytes(Shadow.of(tiny).forward(samples, R)) == pytest.approx(expected, rel=0.1), samples


@pytest.mark.parametrize("samples", [32, 96])
def test_a_hessian_vector_product_takes_what_the_allocator_hands_out(tiny: ClipModel, samples: int) -> None:
    """A minibatch in one piece, and one that is taken in two."""
    expected = allocated(
        lambda: ContrastiveLoss(tiny.encoder({}), pairs(samples), tiny.kind).hvp(theta(tiny), theta(tiny))
    )
    assert peak_bytes(Shadow.of(tiny).product(samples)) == pytest.approx(expected, rel=0.1)


def test_exact_derivatives_take_what_the_allocator_hands_out(tiny: ClipModel) -> None:
    def work() -> None:
        losses, batch = ContrastiveLosses(tiny.encoder({}), pairs(R), tiny.kind), pairs(32)
        derivative(lambda t: losses.losses(t, losses.context(t), batch), theta(tiny), theta(tiny))

    assert peak_bytes(Shadow.of(tiny).exact(32, R)) == pytest.approx(allocated(work), rel=0.1)


def test_flops_are_those_of_the_shapes() -> None:
    def work() -> None:
        _ = torch.zeros(3, 5, device="meta") @ torch.zeros(5, 7, device="meta")

    assert count_flops(work) == 2 * 3 * 5 * 7
