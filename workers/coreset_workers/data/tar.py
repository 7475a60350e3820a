"""A shard's samples, raw, as they stand in the tar. Members of one key need not be adjacent; nothing is unpacked.

Names are split by webdataset: a member `DIR/KEY.EXT` at the first dot of its base name. A suffix that comes again under
the same key starts a new sample, as in open_clip; its key is then written `KEY#2`, so that every sample of a shard has
a key of its own.
"""

import re
import tarfile
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from webdataset.tariterators import base_plus_ext

from coreset.errors import ShardUnreadable, Unavailable
from coreset.members import IMAGE_EXTENSIONS, image_of
from coreset.schemas.part import OddityKind
from coreset_workers.data.oddities import Oddities
from coreset_workers.data.opening import REFUSALS, open_file
from coreset_workers.data.tar_stream import (
    DAMAGE,
    MAX_EXPANSION,
    MAX_MEMBER_BYTES,
    Bomb,
    CountedFile,
    headers,
    max_unpacked,
    open_tar,
)

SCORED_EXTENSIONS = frozenset((*IMAGE_EXTENSIONS, "txt", "json"))
CAPTION_MEMBER = re.compile(r"\d{1,3}\.txt")
"""Extensions of further captions: `KEY.1.txt` beside `KEY.txt`."""

MAX_CAPTIONS = 64
"""Captions of one image; further ones are not read."""

MAX_OPEN_BYTES = 2**30
"""Bytes of the samples whose members may still come."""

LOOK_BACK = 1000
"""Samples whose members may still come: two members of one sample may be that many samples apart."""

_RESERVED = re.compile(r"__[^/]*__($|/)")
"""Names that webdataset keeps for itself (`skip_meta` of its tar_file_iterator)."""


@dataclass
class RawSample:
    """One sample's members as bytes by extension; members that are not read are seen, without their bytes.

    Attributes:
        captions: the captions of a row; None for a sample of a tar, whose members hold them.
    """

    shard: str
    key: str
    row: int
    members: dict[str, bytes] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    captions: list[bytes] | None = None

    def image(self) -> bytes | None:
        """Return the bytes of the first member among jpg, png, jpeg, webp."""
        return image_of(self.members)


class ShardReader:
    """Iterate over a shard's samples, in the order of their first members.

    Args:
        size: bytes that the shard should have, if known.
        everything: read every member, not only those that scoring needs; for copying.

    Attributes:
        damage: after the iteration, what is wrong with the tar, or None. The samples before the damage were delivered.
        oddities: what was left aside so far.

    Raises:
        ShardUnreadable: the shard cannot be opened, or is no tar at all.
        Unavailable: the transfer broke off, or brought less than the file holds. What the tar itself lacks is damage;
            what a storage failed to send is there at the next attempt.
    """

    def __init__(self, uri: str, size: int | None = None, everything: bool = False) -> None:
        self.uri = uri
        self.damage: str | None = None
        self.oddities = Oddities()
        self._size = size
        self._everything = everything

    def __iter__(self) -> Iterator[RawSample]:
        try:
            with open_file(self.uri) as file:
                counted = CountedFile(file, self.uri)
                for sample in self._samples(counted):
                    self._note_dotted_key(sample)
                    yield sample
                self._check_length(counted)
        except REFUSALS as error:
            raise ShardUnreadable(f"{self.uri} cannot be opened: {type(error).__name__}", uri=self.uri) from error
        except OSError as error:
            raise Unavailable(f"{self.uri} cannot be opened now: {type(error).__name__}", uri=self.uri) from error

    def _samples(self, file: CountedFile) -> Iterator[RawSample]:
        """Yield whole samples in the order of their first members, each once LOOK_BACK later ones are open."""
        queue: deque[tuple[str, RawSample]] = deque()
        current: dict[str, RawSample] = {}
        taken: Counter[str] = Counter()
        rows = open_bytes = 0
        for key, ext, data in self._members(file):
            sample = current.get(key)
            if sample is None or ext in sample.seen:
                sample = current[key] = RawSample(self.uri, own_key(key, taken), rows)
                queue.append((key, sample))
                rows += 1
            sample.seen.add(ext)
            if data is not None:
                sample.members[ext] = data
                open_bytes += len(data)
            while len(queue) > LOOK_BACK or (open_bytes > MAX_OPEN_BYTES and len(queue) > 1):
                closed = _close(queue, current)
                open_bytes -= sum(map(len, closed.members.values()))
                yield closed
        while queue:
            yield _close(queue, current)

    def _members(self, file: CountedFile) -> Iterator[tuple[str, str, bytes | None]]:
        """Yield (key, extension, bytes) of the files in the tar; bytes are None if the member is not read."""
        try:
            tar = open_tar(cast(BinaryIO, file), self._size)
        except DAMAGE as error:
            raise ShardUnreadable(f"{self.uri} is not a tar file", uri=self.uri) from error
        name = "the first member"
        try:
            for member in headers(tar):
                name = member.name
                self._require_no_bomb(member)
                if (parts := sample_member(member)) is None:
                    if not member.isdir():
                        self.oddities.add(OddityKind.IGNORED_MEMBER, f"{self.uri}: {name}")
                    continue
                yield *parts, self._content(tar, member, parts[1])
        except Bomb as error:
            self.damage = str(error)
        except DAMAGE as error:
            self.damage = f"cut off or damaged after {name} ({type(error).__name__})"

    def _content(self, tar: tarfile.TarFile, member: tarfile.TarInfo, ext: str) -> bytes | None:
        scored = ext in SCORED_EXTENSIONS or CAPTION_MEMBER.fullmatch(ext)
        wanted = self._everything or (scored and member.size <= MAX_MEMBER_BYTES)
        source = tar.extractfile(member) if wanted else None
        if source is None:
            return None
        data = source.read()
        if len(data) < member.size:
            raise EOFError
        return data

    def _require_no_bomb(self, member: tarfile.TarInfo) -> None:
        """Raise Bomb if the members up to this one announce far more than the whole shard."""
        most = max_unpacked(self._size)
        if most is not None and member.offset_data + member.size > most:
            raise Bomb(f"unpacks to more than {MAX_EXPANSION} times its size")

    def _note_dotted_key(self, sample: RawSample) -> None:
        """Count the images of a sample without one that webdataset's rule for names hides."""
        if sample.image() is not None:
            return
        for ext in sorted(sample.seen):
            if "." in ext and ext.rsplit(".", 1)[-1] in IMAGE_EXTENSIONS:
                self.oddities.add(OddityKind.DOTTED_KEY, f"{self.uri}: {sample.key}.{ext}")

    def _check_length(self, file: CountedFile) -> None:
        rest = bytearray(1 << 20)
        while file.readinto(rest):  # after damage; the rest must come too
            pass
        if self._size is None or file.count == self._size:
            return
        if file.size == self._size:
            raise Unavailable(f"{self.uri}: only {file.count} bytes came of {self._size}", uri=self.uri)
        self.damage = self.damage or f"{file.count} bytes came of {self._size}: the shard has changed"


def sample_member(member: tarfile.TarInfo) -> tuple[str, str] | None:
    """Return (key with its folder, lower-case extension) of a member, or None if it belongs to no sample.

    No link does, whatever it points to, and no sparse file: its holes would be read as zeros that nobody sent. Nor do
    hidden files such as `._KEY.jpg` of macOS, names without extension, and those that webdataset reserves.
    """
    if not member.isfile() or member.issparse() or _RESERVED.match(member.name):
        return None
    key, ext = base_plus_ext(member.name)
    if not key or key.endswith("/") or not ext or ext.startswith("__") or _RESERVED.match(key.rsplit("/", 1)[-1]):
        return None
    return key, ext.lower()


def own_key(key: str, taken: Counter[str]) -> str:
    """Return the key, or if it is taken `KEY#2` and so on; a member may itself be called that."""
    taken[key] += 1
    return key if taken[key] == 1 else own_key(f"{key}#{taken[key]}", taken)


def _close(queue: deque[tuple[str, RawSample]], current: dict[str, RawSample]) -> RawSample:
    """Take the oldest sample off the queue; its key, if no later sample has it, is then free again."""
    key, sample = queue.popleft()
    if current.get(key) is sample:
        del current[key]
    return sample
