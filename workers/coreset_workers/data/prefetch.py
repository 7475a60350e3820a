"""Iteration one item ahead: the next item is made while the current one is used."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Final, TypeVar

T = TypeVar("T")

_END: Final = object()


def prefetch(items: Iterable[T]) -> Iterator[T]:
    """Yield the items in order; a thread makes one in advance, never more, so two are in memory at most.

    Raises:
        Exception: an error in making an item is raised when that item's turn comes.
    """
    source = iter(items)
    context = copy_context()  # so that the thread's log lines carry the task's ids
    with ThreadPoolExecutor(1, "prefetch") as thread:
        following = thread.submit(context.run, next, source, _END)
        while (item := following.result()) is not _END:
            following = thread.submit(context.run, next, source, _END)
            yield item  # pyright: ignore[reportReturnType]
