"""Files wherever they lie: local paths and every URI that fsspec has a file system for."""

from contextlib import AbstractContextManager
from typing import Any, BinaryIO

import fsspec

REFUSALS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""What trying again does not change; other OSErrors, such as an answer of 500, may be gone at the next attempt."""


def open_file(uri: str) -> AbstractContextManager[BinaryIO]:
    """Open a file for reading, byte for byte as it lies there: a compressed one is not unpacked.

    Raises:
        OSError, ValueError: on entry; no such file, or no such file system.
    """
    opened: Any = fsspec.open(uri, "rb", compression=None)
    return opened
