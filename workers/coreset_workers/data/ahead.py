"""The next item is made while the one before is worked on."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Final, TypeVar

T = TypeVar("T")

_END: Final = object()


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield the items in order; a thread makes one in advance, never more, so two are in memory at most.

    Raises:
        Exception: what making an item raises, when that item's turn comes.
    """
    source = iter(items)
    context = copy_context()  # what the logs tell of the task, they tell of the thread too
    with ThreadPoolExecutor(1, "ahead") as thread:
        following = thread.submit(context.run, next, source, _END)
        while (item := following.result()) is not _END:
            following = thread.submit(context.run, next, source, _END)
            yield item  # pyright: ignore[reportReturnType]
