"""A shard's bytes as a stream of tar headers: unpacked, bounded, and with an error where tarfile would see an end.

`webdataset.tariterators.tar_file_iterator` does the same for trusted shards. docs/architecture.md lists what it cannot
do; tests/workers/data/test_webdataset_contract.py measures each case.
"""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from tarfile import ReadError, TarFile
from typing import Any, BinaryIO, Self, cast

from coreset.errors import Unavailable

MAX_MEMBER_BYTES = 256 * 2**20
"""A larger member of a tar, or value of a row, is taken for missing."""

MAX_HEADER_BYTES = 2**20
"""Names and pax headers are read into memory whole, and a gzip of zeros makes them of any size."""

MAX_EXPANSION = 50
"""Largest ratio of a shard's unpacked to its packed bytes. Images hardly shrink, text to a tenth."""

EXPANSION_MARGIN = 2**26
"""Bytes that any shard may unpack to, besides."""

MAX_EMPTY_READS = 64
"""Reads without a byte, one after another, before the end of the file becomes an EOFError."""

DAMAGE = (
    *(tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError),
    *(TypeError, LookupError, OverflowError, struct.error, RecursionError),
)
"""What tarfile and the decompressors raise on a damaged shard. The second row are slips of theirs, found by
`make fuzz`."""

_UNPACKERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"]\0\0\x80": lzma.open,
}
"""By the first bytes of a file. Unlike tarfile's streams, they read on after the first of several packed members."""

_BAD_HEADER = (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError)  # pyright: ignore[reportAttributeAccessIssue]

_SMALL_TYPES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class Bomb(ReadError):
    """A shard that would unpack to far more than it is."""


class Header(tarfile.TarInfo):
    """A header that raises where it is cut off or overwritten; tarfile takes that for the end of the tar."""

    @classmethod
    def fromtarfile(cls, tarfile: TarFile) -> Self:
        try:
            made = super().fromtarfile(tarfile)
        except _BAD_HEADER as error:
            raise ReadError(str(error)) from error
        if tarfile.offset <= made.offset:  # a negative size: this header would be read again, for ever (CVE-2025-8194)
            raise ReadError("the next header lies before this one")
        return made

    def _proc_member(self, tarfile: TarFile) -> "Header":
        if self.type not in _SMALL_TYPES or self.size <= MAX_HEADER_BYTES:
            return super()._proc_member(tarfile)  # pyright: ignore
        raise Bomb(f"a header of {self.size:,} bytes")


def open_tar(file: BinaryIO, packed_size: int | None) -> TarFile:
    """Return a tar that is read once from its start: packed by gzip, bzip2, xz or not, several in a row as one.

    Args:
        packed_size: bytes of the file, if known; bounds what it may unpack to.

    Raises:
        DAMAGE: it is no tar.
    """
    packed = io.BufferedReader(cast(io.RawIOBase, file), 1 << 16)
    start = packed.peek(6)
    unpack = next((make for magic, make in _UNPACKERS.items() if start.startswith(magic)), None)
    plain = cast(BinaryIO, unpack(packed) if unpack else packed)
    stream = _Bounded(plain, max_unpacked(packed_size))
    # ignore_zeros: an end mark is not the end where tars were concatenated.
    return tarfile.open(
        fileobj=cast(Any, stream), mode="r|", tarinfo=Header, errors="backslashreplace", ignore_zeros=True
    )


def max_unpacked(packed_size: int | None) -> int | None:
    """Return the bytes that a file of this size may unpack to; None if its size is not known."""
    return MAX_EXPANSION * packed_size + EXPANSION_MARGIN if packed_size else None


def headers(tar: TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the tar's headers and forget each one: tarfile keeps them all."""
    for header in tar:
        yield header
        tar.members = []  # pyright: ignore[reportAttributeAccessIssue]


class CountedFile(io.RawIOBase):
    """A file read from its start that counts its bytes.

    An error of the file system becomes Unavailable, so that a broken transfer is not taken for a broken tar.

    Attributes:
        count: bytes read so far.
        size: bytes that the file holds, if its file system says so.
    """

    def __init__(self, file: BinaryIO, uri: str) -> None:
        super().__init__()
        self._file = file
        self._uri = uri
        self.count = 0
        self.size: int | None = getattr(file, "size", None)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._file.read(len(buffer))
        except Exception as error:  # a file system's own kinds are many, and some are no OSErrors
            kind = type(error).__name__
            raise Unavailable(f"{self._uri} broke off after {self.count} bytes ({kind})", uri=self._uri) from error
        buffer[: len(data)] = data
        self.count += len(data)
        return len(data)


class _Bounded:
    """What tarfile reads from: raises Bomb beyond a number of bytes, and EOFError where it is read on after its end.

    tarfile reads on, block by block, as far as a member says that it goes, also when nothing comes any more: 10 kB that
    announced 2**96 kept a reader for ever (found by `make fuzz`).
    """

    def __init__(self, file: BinaryIO, most: int | None) -> None:
        self._file = file
        self._left = most
        self._empty = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._empty = 0 if data or size == 0 else self._empty + 1
        if self._empty > MAX_EMPTY_READS:
            raise EOFError
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise Bomb(f"unpacks to more than {MAX_EXPANSION} times its size")
        return data
