"""Search for the damaged files of a plan until a deadline, which the next call continues.

A process remembers the files that it found whole by their stamps, so only changed and damaged files are read again.
"""

import time
from collections.abc import Callable, Collection
from functools import lru_cache
from math import inf
from typing import Generic, NamedTuple, TypeVar

from coreset.errors import DamagedFile, NotFound
from coreset.storage.layout import PlanFolder, part_name, summary_name
from coreset.storage.plan_files import prepared_hashes, require_stamped_part
from coreset.storage.storage import Storage
from coreset.storage.verified import REMEMBERED_HASHES, require_sha256

T = TypeVar("T")


class Examined(NamedTuple, Generic[T]):
    """Outcome of an examination: the number of files, of those examined before the deadline, and the damaged ones."""

    files: int
    checked: int
    damaged: list[T]


def examine_parts(storage: Storage, plan_id: str, shards: Collection[int], deadline: float = inf) -> Examined[int]:
    """Hash the shards' parts until the deadline of the monotonic clock, and list the shards with damaged files."""
    stamps = storage.stamps(PlanFolder(plan_id).parts)

    def verify(shard: int) -> None:
        _require_part(storage, plan_id, shard, stamps.get(summary_name(shard)), stamps.get(part_name(shard)))

    return _examine(shards, verify, deadline)


def examine_prepared(storage: Storage, plan_id: str, deadline: float = inf) -> Examined[str]:
    """Hash the plan's prepared files until the deadline of the monotonic clock, and list the damaged ones."""
    ready = PlanFolder(plan_id).preparation
    try:
        recorded = prepared_hashes(storage, plan_id)
    except DamagedFile:
        return Examined(1, 1, [ready])
    stamps = storage.stamps(ready.rpartition("/")[0])

    def verify(name: str) -> None:
        stamp = stamps.get(name.rpartition("/")[2])
        if stamp is None:
            raise NotFound(f"{name} is not in the storage", name=name)
        require_sha256(storage, name, stamp, recorded[name])

    return _examine(recorded, verify, deadline)


def _examine(things: Collection[T], verify: Callable[[T], object], deadline: float) -> Examined[T]:
    wrong: list[T] = []
    for checked, thing in enumerate(things):
        if checked and time.monotonic() > deadline:  # one at least, so that each call gets on
            return Examined(len(things), checked, wrong)
        try:
            verify(thing)
        except (DamagedFile, NotFound):
            wrong.append(thing)
    return Examined(len(things), len(things), wrong)


@lru_cache(maxsize=REMEMBERED_HASHES)
def _require_part(
    storage: Storage, plan_id: str, shard: int, summary_stamp: str | None, part_stamp: str | None
) -> None:
    """Verify summary and part. The stamps are part of the cache's key; what is damaged is not remembered."""
    stamps = {summary_name(shard): summary_stamp, part_name(shard): part_stamp}
    require_stamped_part(storage, plan_id, shard, {name: stamp for name, stamp in stamps.items() if stamp})
