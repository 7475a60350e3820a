"""Sample uids: 128 bits, written as 32 hex digits, and DataComp's subset file of them."""

import hashlib
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from coreset.errors import InvalidInput, needs_extra

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SUBSET_DTYPE = "u8,u8"
"""Layout of a row of DataComp's subset file: the high and the low half of a uid."""

_HEX = re.compile(r"[0-9a-fA-F]{1,32}")


def normalise(uid: object) -> str | None:
    """Return the uid as 32 lower-case hex digits, zero-padded on the left, or None if it is not a 128-bit hex uid."""
    if not isinstance(uid, str) or not _HEX.fullmatch(uid):
        return None
    return uid.lower().zfill(32)


def derive(shard: str, key: str) -> str:
    """Return the uid of a sample that carries none: the first 128 bits of sha256(shard basename + "/" + key)."""
    name = posixpath.basename(shard.split("?", 1)[0])
    return hashlib.sha256(f"{name}/{key}".encode()).hexdigest()[:32]


def random_score(uid: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on uid and seed alone."""
    digest = hashlib.sha256(f"{seed}/{uid}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def to_subset(uids: Iterable[str]) -> "npt.NDArray[np.void]":
    """Return DataComp's subset array: shape (n,), dtype u8,u8 (high and low half of each uid), sorted."""
    import numpy as np

    halves = np.frombuffer(bytes.fromhex("".join(uids)), ">u8").astype("u8").reshape(-1, 2)
    ordered = halves[np.lexsort((halves[:, 1], halves[:, 0]))]
    return np.ascontiguousarray(ordered).view(SUBSET_DTYPE).reshape(-1)


def from_subset(subset: "npt.NDArray[np.void]") -> list[str]:
    """Return the uids of a DataComp subset array, in its order."""
    return [f"{int(high):016x}{int(low):016x}" for high, low in subset.tolist()]


def read_uids(path: Path) -> list[str]:
    """Return the uids of a file: DataComp's subset array if its name ends with .npy, else text with one uid a line.

    Raises:
        InvalidInput: no such file, no uids in it, or a line that is no uid.
    """
    try:
        found = _read_subset(path) if path.suffix == ".npy" else _read_lines(path)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is neither text nor a .npy file"
        raise InvalidInput(f"{path} cannot be read: {reason}") from error
    if not found:
        raise InvalidInput(f"{path} holds no uids")
    return found


def _read_subset(path: Path) -> list[str]:
    with needs_extra("scores", f"reading {path}"):
        import numpy as np
    try:
        subset = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise InvalidInput(f"{path} is not a .npy file of numbers") from error
    if subset.dtype != SUBSET_DTYPE or subset.ndim != 1:
        raise InvalidInput(
            f"{path} holds {subset.dtype} of shape {subset.shape}, not a row of u8,u8 as DataComp's files"
        )
    return from_subset(subset)


def _read_lines(path: Path) -> list[str]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    found = [(number, line, normalise(line)) for number, line in enumerate(lines, 1) if line]
    for number, line, uid in found:
        if uid is None:
            raise InvalidInput(f"{path}, line {number}: {line[:40]!r} is not a uid (up to 32 hex digits)")
    return [uid for _, _, uid in found if uid is not None]
