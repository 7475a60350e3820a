"""Clock of a worker's activities: idle, waiting for data, running the model, or anything else."""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar, get_args

T = TypeVar("T")

Doing = Literal["idle", "data", "model", "other"]
"""`idle`: no task. `data`: waiting for samples to be read and decoded. `model`: forward passes of samples. `other`:
planning, preparing, merging, writing."""

DOING: tuple[Doing, ...] = get_args(Doing)


class Activity:
    """Seconds spent in each activity of DOING. The worker's main thread switches activities; any thread may read."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._doing: Doing = "idle"
        self._since = now()
        self._seconds: dict[Doing, float] = dict.fromkeys(DOING, 0.0)

    @contextmanager
    def doing(self, what: Doing) -> Generator[None]:
        """Count the time inside as `what`; afterwards the earlier activity continues."""
        before = self._switch(what)
        try:
            yield
        finally:
            self._switch(before)

    def waiting(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items; the time until each is there counts as waiting for data."""
        source = iter(items)
        while True:
            with self.doing("data"):
                try:
                    item = next(source)
                except StopIteration:
                    return
            yield item

    def seconds(self) -> dict[Doing, float]:
        """Return the seconds of each activity; they add up to the time since the start."""
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
"""Activity clock of this process."""
