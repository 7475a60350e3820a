"""One item in advance: made while the one before is worked on, and no more than one."""

import threading
from collections.abc import Iterator

import pytest

from coreset_workers.data.prefetch import prefetch


class Made:
    """Counts up, and tells how far it got."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.made = 0
        self.second = threading.Event()
        self.threads: set[int] = set()

    def __iter__(self) -> Iterator[int]:
        for number in range(self.count):
            self.threads.add(threading.get_ident())
            self.made += 1
            if number == 1:
                self.second.set()
            yield number


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_all_items_come_in_order_from_one_other_thread(count: int) -> None:
    source = Made(count)
    assert list(prefetch(source)) == list(range(count))
    assert len(source.threads) == min(count, 1)
    assert threading.get_ident() not in source.threads


def test_the_next_item_is_made_while_the_first_is_worked_on() -> None:
    source = Made(9)
    items = prefetch(source)
    assert next(items) == 0
    assert source.second.wait(10)
    assert list(items) == list(range(1, 9))


def test_never_more_than_one_is_made_in_advance() -> None:
    source = Made(20)
    for taken, _ in enumerate(prefetch(source), start=1):
        assert source.made <= taken + 1


def test_an_error_comes_at_the_turn_of_the_item_that_failed() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise RuntimeError("no more")

    items = prefetch(broken())
    assert next(items) == 1
    with pytest.raises(RuntimeError, match="no more"):
        next(items)


def test_who_stops_early_ends_the_thread() -> None:
    before = threading.active_count()
    items = prefetch(Made(1000))
    next(items)
    assert threading.active_count() == before + 1
    items.close()
    assert threading.active_count() == before
