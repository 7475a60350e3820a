"""Small shards written member by member, and the parts of a plan that ranks them by chance: no model is needed."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from coreset.schemas.manifest import ShardSummary
from coreset.schemas.plan import Plan
from coreset.spec.pool import PoolSpec
from coreset.spec.scores import Score
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage
from coreset_workers.data.decode import Sample, note_unusable_uids
from coreset_workers.data.listing import list_shards
from coreset_workers.data.loader import Loader
from coreset_workers.data.tar import ShardReader
from coreset_workers.outputs.parts import part_table
from tests.coreset.selections import plan_of
from tests.fuzz.shards import VIEWS

Member = tuple[str, bytes]


def jpeg(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4 + shade % 7, 4 + shade // 7), (shade % 256, 99, 200)).save(buffer, "JPEG")
    return buffer.getvalue()


def sample(key: str, shade: int, caption: bytes = b"a caption", **metadata: object) -> list[Member]:
    """Return the three members that img2dataset writes."""
    return [(f"{key}.jpg", jpeg(shade)), (f"{key}.txt", caption), (f"{key}.json", json.dumps(metadata).encode())]


def tar_bytes(members: Iterable[Member]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def write_tar(path: Path, members: Iterable[Member]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(members))
    return path


def loader(caption_field: str | None = None) -> Loader:
    return Loader({name: lambda view=view: view for name, view in VIEWS.items()}, caption_field, processes=0)


def read(path: Path, caption_field: str | None = None) -> tuple[list[Sample], ShardReader]:
    """Return a shard's decoded samples, and its reader, which knows what was left aside."""
    reader = ShardReader(str(path), path.stat().st_size)
    found = list(loader(caption_field).decode(reader))
    note_unusable_uids(reader.oddities, str(path), found)
    return found, reader


def scored(storage: Storage, shards: str | list[str]) -> tuple[Plan, list[ShardSummary]]:
    """Write the parts of a plan whose only score is `random`, and return it with its shards' summaries."""
    planned = list_shards(PoolSpec(shards=[shards] if isinstance(shards, str) else shards))
    plan = plan_of(0, scores=[Score.RANDOM], metadata=[], clusters=0).model_copy(update={"shards": planned})
    summaries = []
    for shard in plan.shards:
        found, reader = read(Path(shard.uri))
        good = [place for place, one in enumerate(found) if one.status == "ok"]
        table = part_table(plan, Path(shard.uri).name, found, good, {})
        part = storage.write_with(
            PlanFolder(plan.id).part(shard.index), lambda file, table=table: pq.write_table(table, file)
        )
        summary = ShardSummary(
            shard=shard.index,
            uri=shard.uri,
            part=part,
            read=len(found),
            scored=len(good),
            oddities=reader.oddities.as_dict(),
            seconds=0,
            device="cpu",
        )
        storage.write(PlanFolder(plan.id).summary(shard.index), summary.model_dump_json().encode())
        summaries.append(summary)
    return plan, summaries
