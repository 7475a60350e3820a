"""Files of a plan that several rooms verify: what preparing wrote, by the hashes in ready.json, and parts."""

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import cast

from coreset.errors import DamagedFile, NotFound
from coreset.schemas.manifest import ShardSummary
from coreset.storage.layout import PlanFolder, part_name, summary_name
from coreset.storage.storage import Storage
from coreset.storage.verified import damaged, load_json, read_hashed, require_hash

HASHING_THREADS = 8
"""Parts that are hashed at the same time; hashing and reading leave the interpreter free."""


READING_THREADS = 16
"""Files that are asked for at the same time; the threads wait for the storage."""


def prepared_hashes(storage: Storage, plan_id: str) -> dict[str, str]:
    """Return the sha256 of each prepared file by its path; {} before version 0.3 or before the plan is prepared.

    Raises:
        DamagedFile: ready.json is damaged.
    """
    try:
        ready = load_json(storage, PlanFolder(plan_id).preparation, json.loads)
    except NotFound:
        return {}
    return cast(dict[str, str], ready.get("files", {}))


def read_prepared(storage: Storage, plan_id: str, name: str) -> bytes:
    """Return the bytes of a prepared file, verified. Raises DamagedFile if it is gone or damaged."""
    return read_hashed(storage, name, prepared_hashes(storage, plan_id).get(name))


def load_summary(storage: Storage, plan_id: str, shard: int) -> ShardSummary:
    """Return the summary of a part. Raises NotFound and DamagedFile."""
    return load_json(storage, PlanFolder(plan_id).summary(shard), ShardSummary.model_validate_json)


def complete_parts(storage: Storage, plan_id: str, shards: Iterable[int]) -> list[int]:
    """Return those of the shards that have a part, in order, after verifying summaries and parts.

    A part is hashed once per process and version of its file.

    Raises:
        DamagedFile: a summary or a part is damaged, or a summary has no part.
    """
    stamps = storage.stamps(PlanFolder(plan_id).parts)
    finished = [shard for shard in shards if summary_name(shard) in stamps]

    def verify(shard: int) -> None:
        require_stamped_part(storage, plan_id, shard, stamps)

    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        list(pool.map(verify, finished))
    return finished


def finished_parts(storage: Storage, plan_id: str, shards: Iterable[int]) -> dict[int, ShardSummary]:
    """Return the summaries of those of the shards that have a part, in order; the parts are not verified.

    Raises:
        DamagedFile: a summary is damaged.
    """
    written = set(storage.names(PlanFolder(plan_id).parts))
    finished = [shard for shard in shards if summary_name(shard) in written]
    with ThreadPoolExecutor(READING_THREADS) as pool:
        return dict(zip(finished, pool.map(partial(load_summary, storage, plan_id), finished), strict=True))


def read_parts(storage: Storage, plan_id: str, summaries: Iterable[ShardSummary], verify: bool = True) -> list[bytes]:
    """Return the bytes of some parts, verified if wanted. Raises DamagedFile if one is gone or damaged."""

    def read(summary: ShardSummary) -> bytes:
        return read_hashed(storage, PlanFolder(plan_id).part(summary.shard), summary.part.sha256 if verify else None)

    with ThreadPoolExecutor(1 if storage.local else READING_THREADS) as pool:
        return list(pool.map(read, summaries))


def require_part(storage: Storage, plan_id: str, shard: int) -> ShardSummary:
    """Return the summary of a shard after verifying its part. Raises NotFound without a summary, and DamagedFile."""
    return require_stamped_part(storage, plan_id, shard, storage.stamps(PlanFolder(plan_id).parts))


def require_stamped_part(storage: Storage, plan_id: str, shard: int, stamps: Mapping[str, str]) -> ShardSummary:
    """Do what require_part does, by the present stamps of the plan's parts."""
    summary, name = load_summary(storage, plan_id, shard), PlanFolder(plan_id).part(shard)
    if part_name(shard) not in stamps:
        raise damaged(name, "its summary is there, but the part is gone")
    require_hash(storage, name, stamps[part_name(shard)], summary.part)
    return summary


def part_damage(storage: Storage, plan_id: str, shards: Iterable[int]) -> dict[int, DamagedFile]:
    """Return what is wrong with the part or the summary of each shard that should have one, after hashing them."""
    stamps = storage.stamps(PlanFolder(plan_id).parts)
    found: dict[int, DamagedFile] = {}
    for shard in shards:
        try:
            require_stamped_part(storage, plan_id, shard, stamps)
        except NotFound:
            found[shard] = damaged(PlanFolder(plan_id).summary(shard), "it is gone")
        except DamagedFile as error:
            found[shard] = error
    return found
