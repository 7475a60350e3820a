"""Sample uids: 128 bits, written as 32 hex digits, and DataComp's subset file of them."""

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from coreset.errors import InvalidInput, needs_extra

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SUBSET_DTYPE = "u8,u8"
"""Layout of a row of DataComp's subset file: the high and the low half of a uid."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HEX = re.compile(r"(0x)?0*(?P<digits>[0-9a-f]{1,32})")
_LONGEST_TEXT = 200
"""Characters of a uid with its padding."""


def normalise(uid: object) -> str | None:
    """Return a 128-bit uid as 32 lower-case hex digits, or None if the value is not one.

    Taken are hex digits (with `0x`, with zeros before them, or fewer than 32), UUIDs with dashes, both with white space
    around them, and integers from 0 to 2**128 - 1.
    """
    if isinstance(uid, int) and not isinstance(uid, bool):
        return f"{uid:032x}" if 0 <= uid < 2**128 else None
    if not isinstance(uid, str) or len(uid) > _LONGEST_TEXT:
        return None
    text = uid.strip().lower()
    if _UUID.fullmatch(text):
        return text.replace("-", "")
    found = _HEX.fullmatch(text)
    return found["digits"].zfill(32) if found else None


def of_content(image: bytes, caption: bytes) -> str:
    """Return the uid of a sample that has none: the first 128 bits of sha256(image + zero byte + caption).

    It stays the same when a pool is moved or packed into other shards. Exact copies share it.
    """
    digest = hashlib.sha256(image)
    digest.update(b"\0" + caption)
    return digest.hexdigest()[:32]


def random_score(uid: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on uid and seed alone."""
    digest = hashlib.sha256(f"{seed}/{uid}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def from_subset(subset: "npt.NDArray[np.void]") -> list[str]:
    """Return the uids of a DataComp subset array, in its order."""
    return [f"{int(high):016x}{int(low):016x}" for high, low in subset.tolist()]


def read_uids(path: Path) -> list[str]:
    """Return the uids of a file: DataComp's subset array if its name ends with .npy, else text with one uid a line.

    Raises:
        InvalidInput: no such file, no uids in it, or a line that is no uid.
    """
    try:
        found = from_subset(read_subset(path)) if path.suffix == ".npy" else _read_lines(path)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is neither text nor a .npy file"
        raise InvalidInput(f"{path} cannot be read: {reason}") from error
    if not found:
        raise InvalidInput(f"{path} holds no uids")
    return found


def read_subset(path: Path) -> "npt.NDArray[np.void]":
    """Return the array of a DataComp subset file (k,), dtype u8,u8.

    Raises:
        InvalidInput: no such file, or not a row of u8,u8; numpy is not installed.
    """
    with needs_extra("scores", f"reading {path}"):
        import numpy as np
    try:
        subset = np.load(path, allow_pickle=False)
    except (OSError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is neither text nor a .npy file"
        raise InvalidInput(f"{path} cannot be read: {reason}") from error
    except ValueError as error:
        raise InvalidInput(f"{path} is not a .npy file of numbers") from error
    if subset.dtype != SUBSET_DTYPE or subset.ndim != 1:
        raise InvalidInput(
            f"{path} holds {subset.dtype} of shape {subset.shape}, not a row of u8,u8 as DataComp's files"
        )
    return subset


def _read_lines(path: Path) -> list[str]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    found = [(number, line, normalise(line)) for number, line in enumerate(lines, 1) if line]
    for number, line, uid in found:
        if uid is None:
            raise InvalidInput(f"{path}, line {number}: {line[:40]!r} is not a uid (up to 32 hex digits)")
    return [uid for _, _, uid in found if uid is not None]
