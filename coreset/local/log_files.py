"""Bounded log files of processes that write to them by themselves."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

LOG_BYTES = 20 * 1024 * 1024
"""Size beyond which a log file begins again; as much of older lines is kept beside it."""


def rotate(log: Path, limit: int = LOG_BYTES) -> None:
    """Move the content of a log that has more than `limit` bytes to `NAME.1`, and empty the log.

    A process keeps its file open, so it is copied and then cut off; appending continues at the new end. A line between
    the last read and the cut, microseconds, is lost. Renaming the file would take a signal to each process, and a pipe
    would stop them all if this process is suspended.
    """
    with suppress(OSError):  # a full disk: the log stays as it is until there is room
        if log.stat().st_size <= limit:
            return
        older = log.with_name(f"{log.name}.1")
        with log.open("rb") as source, open(older, "wb", opener=_private) as target:
            shutil.copyfileobj(source, target)  # to the end, so also what is written meanwhile
            os.truncate(log, 0)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
