"""A check that many callers share."""

import threading
import time
from collections.abc import Callable

SECONDS = 3.0
"""Seconds for which a success counts."""


class SharedCheck:
    """Runs a check whose success counts for SECONDS, for all callers; what fails is checked again by the next.

    Args:
        check: raises an error if something is wrong.
        now: seconds of a clock that does not jump.
    """

    def __init__(self, check: Callable[[], object], now: Callable[[], float] = time.monotonic) -> None:
        self._check = check
        self._now = now
        self._lock = threading.Lock()
        self._until = float("-inf")

    def __call__(self) -> None:
        """Raise what the check raises."""
        with self._lock:
            if self._now() >= self._until:
                self._check()
                self._until = self._now() + SECONDS
