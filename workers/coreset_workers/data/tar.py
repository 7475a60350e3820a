"""A shard's samples, raw, as they stand in the tar. Members of one key need not be adjacent; nothing is unpacked.

A member `DIR/KEY.EXT` is split at the first dot of its base name. A suffix that comes again under the same key starts
a new sample, as in open_clip; its key is then written `KEY#2`, so that every sample of a shard has a key of its own.
"""

import lzma
import posixpath
import struct
import tarfile
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from tarfile import ReadError, TarFile
from typing import BinaryIO, Self, cast

from coreset.errors import ShardUnreadable, Unavailable
from coreset_workers.data.opening import REFUSALS, open_file

IMAGES = ("jpg", "png", "jpeg", "webp")
KEPT = frozenset((*IMAGES, "txt", "json"))
LARGEST_MEMBER = 256 * 2**20
"""Bytes; a larger member is taken for missing."""

LARGEST_HEADER = 2**20
"""Bytes; names and pax headers are read into memory whole, a gzip of zeros makes them of any size."""
MOST_UNPACKED = 50
"""Times its size that a compressed shard may unpack to, and 64 MiB. Images hardly shrink, text to a tenth."""
HELD_AT_MOST = 2**30
"""Bytes of the samples that are open at once."""

DAMAGE = (
    *(tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError),
    *(TypeError, LookupError, OverflowError, struct.error, RecursionError),
)
"""What tarfile and its decompressors raise on a damaged shard. The second row are their own slips: a gzip that ends
within its header is a TypeError (Python 3.11), found by `make fuzz`."""


@dataclass
class RawSample:
    """One sample's members as bytes by extension; members that nobody reads are seen, but not held."""

    shard: str
    key: str
    row: int
    members: dict[str, bytes] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def image(self) -> bytes | None:
        """Return the image's bytes, the first of jpg, png, jpeg, webp that is there."""
        return next((self.members[ext] for ext in IMAGES if ext in self.members), None)


class ShardReader:
    """Iterate over a shard's samples, in the order of their first members.

    Args:
        size: bytes that the shard should have, if known.
        everything: hold every member, not only those that scoring reads; for copying.

    Attributes:
        damage: after the iteration, what is wrong with the tar, or None. The samples before the damage were delivered.

    Raises:
        ShardUnreadable: the shard cannot be opened, or is no tar at all.
        Unavailable: the transfer broke off, or brought less than the file holds. What the tar itself lacks is damage;
            what a storage failed to send is there at the next attempt.
    """

    def __init__(self, uri: str, size: int | None = None, everything: bool = False) -> None:
        self.uri = uri
        self.damage: str | None = None
        self._size = size
        self._everything = everything

    def __iter__(self) -> Iterator[RawSample]:
        try:
            with open_file(self.uri) as file:
                counted = _Counted(cast(BinaryIO, file), self.uri)
                yield from self._samples(counted)
                self._check_length(counted)
        except REFUSALS as error:
            raise ShardUnreadable(f"{self.uri} cannot be opened: {type(error).__name__}", uri=self.uri) from error
        except OSError as error:
            raise Unavailable(f"{self.uri} cannot be opened now: {type(error).__name__}", uri=self.uri) from error

    def _samples(self, file: "_Counted") -> Iterator[RawSample]:
        """Yield whole samples in the order of their first members, each once LOOK_BACK later ones are open."""
        queue: deque[tuple[str, RawSample]] = deque()
        current: dict[str, RawSample] = {}
        taken: Counter[str] = Counter()
        rows = held = 0
        for name, data in self._members(file):
            key, ext = split(name)
            sample = current.get(key)
            if sample is None or ext in sample.seen:
                sample = current[key] = RawSample(self.uri, _own_key(key, taken), rows)
                queue.append((key, sample))
                rows += 1
            sample.seen.add(ext)
            if data is not None:
                sample.members[ext] = data
                held += len(data)
            while len(queue) > LOOK_BACK or (held > HELD_AT_MOST and len(queue) > 1):
                closed = _close(queue, current)
                held -= sum(map(len, closed.members.values()))
                yield closed
        while queue:
            yield _close(queue, current)

    def _members(self, file: "_Counted") -> Iterator[tuple[str, bytes | None]]:
        """Yield (name, bytes) of the files in the tar; bytes are None where nobody reads them."""
        try:
            tar = tarfile.open(  # noqa: SIM115
                fileobj=cast(BinaryIO, file), mode="r|*", tarinfo=Header, errors="backslashreplace"
            )
        except DAMAGE as error:
            raise ShardUnreadable(f"{self.uri} is not a tar file", uri=self.uri) from error
        name = "the first member"
        try:
            for member in tar:
                name = member.name
                self._require_no_bomb(member)
                if not belongs_to_sample(member):
                    continue
                wanted = self._everything or (split(name)[1] in KEPT and member.size <= LARGEST_MEMBER)
                source = tar.extractfile(member) if wanted else None
                data = source.read() if source else None
                if data is not None and len(data) < member.size:
                    raise EOFError
                yield name, data
        except _Bomb as error:
            self.damage = str(error)
        except DAMAGE as error:
            self.damage = f"cut off or damaged after {name} ({type(error).__name__})"

    def _require_no_bomb(self, member: tarfile.TarInfo) -> None:
        """Raise _Bomb if the members up to this one are far more than the whole shard."""
        if self._size and member.offset_data + member.size > MOST_UNPACKED * self._size + (64 << 20):
            raise _Bomb(f"unpacks to more than {MOST_UNPACKED} times its size")

    def _check_length(self, file: "_Counted") -> None:
        while file.read(1 << 20):  # tarfile stops at the end mark; the rest must come too
            pass
        if self._size is None or file.count == self._size:
            return
        if file.size == self._size:
            raise Unavailable(f"{self.uri}: only {file.count} bytes came of {self._size}", uri=self.uri)
        self.damage = self.damage or f"{file.count} bytes came of {self._size}: the shard has changed"


LOOK_BACK = 1000
"""Samples that are open at once: members of one sample may be that many samples apart."""


def belongs_to_sample(member: tarfile.TarInfo) -> bool:
    """Return whether a member is a file under a name that webdataset does not keep for itself.

    No link, whatever it points to, and no sparse file: its holes would be read as zeros that nobody sent.
    """
    return member.isfile() and not member.issparse() and not posixpath.basename(member.name).startswith("__")


def split(name: str) -> tuple[str, str]:
    """Return (key with its folder, lower-case extension), split at the first dot of the base name."""
    folder, base = posixpath.split(name)
    stem, _, ext = base.partition(".")
    return (f"{folder}/{stem}" if folder else stem), ext.lower()


def _own_key(key: str, taken: Counter[str]) -> str:
    """Return the key, or if it is taken `KEY#2` and so on; a member may itself be called that."""
    taken[key] += 1
    return key if taken[key] == 1 else _own_key(f"{key}#{taken[key]}", taken)


def _close(queue: deque[tuple[str, RawSample]], current: dict[str, RawSample]) -> RawSample:
    """Take the oldest sample off the queue; its key, if no later sample has it, is then free again."""
    key, sample = queue.popleft()
    if current.get(key) is sample:
        del current[key]
    return sample


class _Bomb(ReadError):
    pass


_BAD_HEADER = (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError)  # pyright: ignore[reportAttributeAccessIssue]


_SMALL_TYPES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class Header(tarfile.TarInfo):
    """A header that says when it is cut off or overwritten, where tarfile would take it for the end of the tar."""

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
        if self.type not in _SMALL_TYPES or self.size <= LARGEST_HEADER:
            return super()._proc_member(tarfile)  # pyright: ignore
        raise _Bomb(f"a header of {self.size:,} bytes")


EMPTY_READS = 64


class _Counted:
    """A stream that counts the bytes that came through, and tells a broken transfer from a broken tar.

    tarfile looks for the next header by reading on, block by block, as far as a member says that it goes, also when
    nothing comes any more: 10 kB that said 2**96 kept a reader for ever (found by `make fuzz`).
    """

    def __init__(self, file: BinaryIO, uri: str) -> None:
        self._file = file
        self._uri = uri
        self.count = 0
        self._empty = 0
        self.size: int | None = getattr(file, "size", None)

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._file.read(size)
        except Exception as error:  # a file system's own kinds are many, and some are no OSErrors
            kind = type(error).__name__
            raise Unavailable(f"{self._uri} broke off after {self.count} bytes ({kind})", uri=self._uri) from error
        self.count += len(data)
        self._empty = 0 if data or size == 0 else self._empty + 1
        if self._empty > EMPTY_READS:
            self._empty = 0
            raise EOFError
        return data
