"""Stored files that are verified when they are read: JSON with its own checksum, and files whose sha256 is recorded.

A file that is not what was written counts as missing: it is logged, noted for `take_damage`, and raised as DamagedFile,
so that its owner makes it again or says so. A JSON file has its checksum as the last field, `sha256`, over the text
before that field. Files of older versions have none and are read as they are.
"""

import hashlib
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple, TypeVar

import structlog

from coreset.errors import DamagedFile, NotFound
from coreset.schemas.manifest import File
from coreset.storage.storage import Storage

log = structlog.get_logger("coreset.storage.verified")

T = TypeVar("T")

KINDS = (
    "checkpoints",
    "kept",
    "manifest",
    "merges",
    "open_clip_config",
    "params",
    "parts",
    "plan",
    "prepared",
    "proxies",
    "run",
    "selections",
    "summary",
    "training",
    "trials",
    "work",
)
"""Kinds of verified files: the third piece of their path; summaries of shards are in `parts`."""

PIECE = 1 << 22
"""Bytes hashed at once."""

REMEMBERED_HASHES = 100_000
"""Number of files whose hash a process remembers, some 30 MB."""

NOTED_DAMAGE = 1000
"""Largest number of damaged files that wait for `take_damage`; older ones are dropped, and stay in the log."""

_SEAL = re.compile(rb', "sha256": "([0-9a-f]{64})"\}$')
_SEAL_BYTES = len(b', "sha256": ""}') + 64
_BROKEN_SEAL = 8
"""Largest number of wrong bytes in the end of a file that is still taken for a damaged seal."""


class Damage(NamedTuple):
    """A damaged file: its path below the storage's root, and what is wrong with it."""

    name: str
    why: str

    @property
    def kind(self) -> str:
        return self.name.split("/")[2].partition(".")[0]

    @property
    def warning(self) -> str:
        return f"a stored file was damaged ({self.why}) and counted as missing: {self.name}"


_noted: deque[Damage] = deque(maxlen=NOTED_DAMAGE)


def take_damage() -> list[Damage]:
    """Return the damaged files that this process met since the last call, each once."""
    found: dict[Damage, None] = {}
    while _noted:
        found[_noted.popleft()] = None
    return list(found)


def damage_counts(found: Iterable[Damage]) -> Counter[str]:
    """Return what to add to the counters `damaged_files:{kind}` (coreset.queue.counters)."""
    return Counter(f"damaged_files:{damage.kind}" for damage in found)


def damaged(name: str, why: str) -> DamagedFile:
    """Log and note a damaged file, and return the error to raise."""
    log.warning("damaged file", name=name, why=why)
    _noted.append(Damage(name, why))
    return DamagedFile(
        f"{name} in the storage is damaged: {why}. Post the same spec again: what is damaged is made again, and the "
        "rest is used as it is.",
        name=name,
        why=why,
    )


def write_json(storage: Storage, name: str, text: str) -> File:
    """Write a JSON object, with its checksum as the last field."""
    body = text.rstrip().removesuffix("}").encode()
    return storage.write(name, body + f', "sha256": "{hashlib.sha256(body).hexdigest()}"}}'.encode())


def read_json(storage: Storage, name: str) -> bytes:
    """Return a JSON object without its checksum. Raises NotFound, and DamagedFile if it is not what was written."""
    data = storage.read(name)
    seal = _SEAL.search(data)
    if seal is None:
        if _wrong_bytes(data[-_SEAL_BYTES:]) <= _BROKEN_SEAL:
            raise damaged(name, "its sha256 cannot be read")
        return data  # of a version that recorded none
    body = data[: seal.start()]
    if hashlib.sha256(body).hexdigest().encode() != seal[1]:
        raise damaged(name, "its sha256 differs from the one that it records")
    return body + b"}"


def _wrong_bytes(end: bytes) -> int:
    """Return how many bytes of a file's end differ from a seal's."""
    start, stop = b', "sha256": "', b'"}'
    fixed = start + b"0" * 64 + stop
    digest = range(len(start), len(start) + 64)
    wrong = sum(byte not in b"0123456789abcdef" if at in digest else byte != fixed[at] for at, byte in enumerate(end))
    return wrong + len(fixed) - len(end)


def load_json(storage: Storage, name: str, parse: Callable[[bytes], T]) -> T:
    """Return what `parse` makes of a JSON object. Raises NotFound, and DamagedFile if it cannot be parsed."""
    data = read_json(storage, name)
    try:
        return parse(data)
    except ValueError as error:  # of json, of pydantic, and of text that is not UTF-8
        raise damaged(name, "it cannot be parsed") from error


def read_hashed(storage: Storage, name: str, sha256: str | None) -> bytes:
    """Return the bytes of a file that should be there. Raises DamagedFile if it is gone, or has another sha256.

    Args:
        sha256: the recorded one; None for files of versions that recorded none.
    """
    try:
        data = storage.read(name)
    except NotFound as error:
        raise damaged(name, "it is gone") from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise damaged(name, "its sha256 differs from the recorded one")
    return data


def require_hash(storage: Storage, name: str, stamp: str, recorded: File) -> None:
    """Raise DamagedFile if a file is not the recorded one.

    Args:
        stamp: the file's present size and version, from `Storage.stamps`; an unchanged file is hashed once per process.
    """
    if not stamp.startswith(f"{recorded.size} "):
        raise damaged(name, f"it has {stamp.split()[0]} bytes instead of {recorded.size}")
    require_sha256(storage, name, stamp, recorded.sha256)


def require_sha256(storage: Storage, name: str, stamp: str, sha256: str) -> None:
    """Raise DamagedFile if a file has another sha256; an unchanged file is read, in pieces, once per process."""
    if _hash_of(storage, name, stamp) != sha256:
        _hash_of.cache_clear()
        raise damaged(name, "its sha256 differs from the recorded one")


def require_listed(storage: Storage, name: str, file: File) -> None:
    """Raise DamagedFile if a file is gone or is not the recorded one; it is hashed once per process and version."""
    folder, _, base = name.rpartition("/")
    stamps = storage.stamps(folder)
    if base not in stamps:
        raise damaged(name, "it is gone")
    require_hash(storage, name, stamps[base], file)


@lru_cache(maxsize=REMEMBERED_HASHES)
def _hash_of(storage: Storage, name: str, stamp: str) -> str:
    """Return a file's sha256; `stamp` is part of the cache's key."""
    digest = hashlib.sha256()
    with storage.open(name) as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


class RecordingStorage(Storage):
    """A storage that records the sha256 of every file written through it, by path.

    Attributes:
        written: sha256 by path below the root.
    """

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.written: dict[str, str] = {}

    def write(self, name: str, data: bytes, rows: int | None = None) -> File:
        """Write the file whole or not at all, and record its sha256."""
        file = super().write(name, data, rows)
        self.written[name] = file.sha256
        return file
