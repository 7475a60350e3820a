"""Sample uids: 128 bits, written as 32 hex digits, and DataComp's subset file of them."""

import hashlib
import posixpath
import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

SUBSET_DTYPE = np.dtype("u8,u8")

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


def to_subset(uids: Iterable[str]) -> npt.NDArray[np.void]:
    """Return DataComp's subset array: shape (n,), dtype u8,u8 (high and low half of each uid), sorted."""
    halves = np.frombuffer(bytes.fromhex("".join(uids)), ">u8").astype("u8").reshape(-1, 2)
    ordered = halves[np.lexsort((halves[:, 1], halves[:, 0]))]
    return np.ascontiguousarray(ordered).view(SUBSET_DTYPE).reshape(-1)


def from_subset(subset: npt.NDArray[np.void]) -> list[str]:
    """Return the uids of a DataComp subset array, in its order."""
    return [f"{int(high):016x}{int(low):016x}" for high, low in subset.tolist()]
