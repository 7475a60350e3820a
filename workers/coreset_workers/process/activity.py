"""How a worker's time goes: nothing to do, waiting for data, running the model, or the rest."""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar, get_args

T = TypeVar("T")

Doing = Literal["idle", "data", "model", "other"]
"""`idle`: no task. `data`: the model waits for a shard to be read and decoded. `model`: forward passes of samples; the
loader waits, unless it reads ahead. `other`: planning, preparing, merging, writing."""

DOING: tuple[Doing, ...] = get_args(Doing)


class Activity:
    """A clock that always runs on one of DOING. The worker's main thread switches it; any thread may read it."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._doing: Doing = "idle"
        self._since = now()
        self._seconds: dict[Doing, float] = dict.fromkeys(DOING, 0.0)

    @contextmanager
    def doing(self, what: Doing) -> Generator[None]:
        """Count the time inside for `what`, then again for what was done before."""
        before = self._switch(what)
        try:
            yield
        finally:
            self._switch(before)

    def waiting(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items; the time until each comes counts as waiting for data."""
        source = iter(items)
        while True:
            with self.doing("data"):
                try:
                    item = next(source)
                except StopIteration:
                    return
            yield item

    def seconds(self) -> dict[Doing, float]:
        """Return the seconds since the start by what was done; together they are all of the time."""
        with self._lock:
            self._settle()
            return dict(self._seconds)

    def _switch(self, what: Doing) -> Doing:
        with self._lock:
            self._settle()
            before, self._doing = self._doing, what
        return before

    def _settle(self) -> None:
        now = self._now()
        self._seconds[self._doing] += now - self._since
        self._since = now


activity = Activity()
"""This process's."""
