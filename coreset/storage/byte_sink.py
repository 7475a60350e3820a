"""A write-only file that passes its bytes on, for libraries that write to file objects."""

import io
from collections.abc import Callable
from typing import Any


class ByteSink(io.RawIOBase):
    """A file whose bytes go to a function as they are written.

    Args:
        receive: called with the bytes of each write; they may change after the call.

    Attributes:
        size: bytes written so far.
    """

    def __init__(self, receive: Callable[[memoryview], object]) -> None:
        super().__init__()
        self._receive = receive
        self.size = 0

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._receive(view)
        self.size += len(view)
        return len(view)

    def tell(self) -> int:
        return self.size

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Stay open: libraries close what they write to, and its owner may still write or read the rest."""
