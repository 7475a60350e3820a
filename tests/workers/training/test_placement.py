"""Where checkpoints lie: at equal falls of the held-out loss, the lowest last."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coreset_workers.training.placement import has_ended, lowest, patience, place

LOSSES = st.lists(st.floats(0.1, 10), min_size=2, max_size=70)


def test_checkpoints_lie_densely_where_the_loss_falls_steeply() -> None:
    losses = [6.0, 5.0, 4.0, 3.5, 3.4, 3.3, 3.2, 3.1, 3.05, 3.0]
    assert place(losses, range(1, 10), 3) == [1, 2, 9]
    assert place(losses, range(1, 10), 6) == [1, 2, 3, 9]  # 5.5 and 5.0, 4.5 and 4.0, 3.5, 3.0


def test_what_follows_the_lowest_loss_is_no_checkpoint() -> None:
    losses = [6.0, 5.0, 4.0, 3.9, 4.2, 5.0]
    assert place(losses, range(1, 6), 2) == [2, 3]


@settings(deadline=None)
@given(losses=LOSSES, wanted=st.integers(1, 12))
def test_no_gap_between_checkpoints_is_larger_than_the_steepest_measured_one_and_a_level(
    losses: list[float], wanted: int
) -> None:
    chosen = place(losses, range(1, len(losses)), wanted)
    best = lowest(losses)
    assert chosen[-1] == best
    assert len(chosen) <= wanted
    assert all(a < b for a, b in itertools.pairwise(chosen))
    fall = losses[0] - losses[best]
    if fall > 0:
        running = np.minimum.accumulate(losses)
        steepest = (running[:-1] - running[1:]).max()
        kept = [losses[0], *(running[k] for k in chosen)]
        assert max(np.subtract(kept[:-1], kept[1:])) <= fall / wanted + steepest + 1e-9


@settings(deadline=None)
@given(losses=LOSSES, wanted=st.integers(1, 8))
def test_states_that_are_kept_on_the_way_are_enough_to_end_with_the_lowest(losses: list[float], wanted: int) -> None:
    kept: set[int] = set()
    for k in range(1, len(losses)):
        seen = losses[: k + 1]
        kept = {*place(seen, kept | {k}, 2 * wanted), k}
        assert lowest(seen) in kept
        assert len(kept) <= 2 * wanted + 1
    assert place(losses, kept, wanted)[-1] == lowest(losses)


def test_training_ends_with_its_budget_or_when_the_loss_has_not_fallen_for_an_eighth_of_it() -> None:
    assert patience(64) == 8
    falling = [float(loss) for loss in range(100, 36, -1)]
    assert not has_ended(falling[:64], 64)
    assert has_ended([*falling, 1.0], 64)
    rising = [6.0, 5.0, *(5.0 + k / 100 for k in range(1, 9))]
    assert not has_ended(rising[:-1], 64)
    assert has_ended(rising, 64)
    assert not has_ended([6.0], 64)


@pytest.mark.parametrize(("losses", "index"), [([1.0, 2.0, 3.0], 1), ([9.0, 4.0, 4.0], 1), ([9.0, 5.0, 4.0], 2)])
def test_the_state_before_training_is_never_the_lowest(losses: list[float], index: int) -> None:
    assert lowest(losses) == index
