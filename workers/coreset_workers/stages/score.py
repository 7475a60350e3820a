"""The score stage: one shard, read once, to its part and its summary."""

import time
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq

from coreset.errors import ShardUnreadable
from coreset.schemas.manifest import ShardSummary
from coreset.schemas.part import SampleStatus, part_schema
from coreset.schemas.plan import PlannedShard
from coreset.storage.layout import PlanFolder
from coreset.storage.verified import write_json
from coreset_workers.data.decode import Sample, note_unusable_uids
from coreset_workers.data.listing import changed
from coreset_workers.data.loader import Loader
from coreset_workers.data.shards import open_shard
from coreset_workers.model.device import device_name
from coreset_workers.outputs.parts import part_table
from coreset_workers.outputs.thumbnails import write_thumbnails
from coreset_workers.process.activity import activity
from coreset_workers.stages.scorer import Beat, Scorer


def score_shard(
    scorer: Scorer, loader: Loader, shard: PlannedShard, beat: Beat, thumbnails: bool = False
) -> ShardSummary:
    """Score a shard and write its thumbnails, if wanted, its part, then its summary, which says that it is complete.

    Raises:
        ShardUnreadable: the shard cannot be opened, is no tar, or is not the one that was planned.
    """
    plan, started = scorer.plan, time.monotonic()
    if (why := changed(shard)) is not None:
        raise ShardUnreadable(f"{shard.uri} {why}; post the spec again to score it as it is now", uri=shard.uri)
    reader = open_shard(shard)
    tables, samples = [], list[Sample]()
    for block in activity.waiting(loader.blocks(reader, scorer.batches.size, scorer.block_samples, thumbnails)):
        with activity.doing("model"):
            columns = scorer.score(block, beat) if block.good else {}
        tables.append(part_table(plan, shard.name, block.samples, block.good, columns))
        samples += block.samples if thumbnails else []
        note_unusable_uids(reader.oddities, shard.label, block.samples)
    table = pa.concat_tables(tables) if tables else part_schema(plan).empty_table()
    if thumbnails:
        write_thumbnails(scorer.storage, plan, shard.index, samples)
    part = scorer.storage.write_with(
        PlanFolder(plan.id).part(shard.index),
        lambda file: pq.write_table(table, file, write_page_checksum=True),
        len(table),
    )
    bad = dict(Counter(str(status) for status in table["status"].to_pylist()))
    scored = bad.pop(SampleStatus.OK.value, 0)
    summary = ShardSummary(
        shard=shard.index,
        uri=shard.label,
        part=part,
        read=len(table),
        scored=scored,
        bad=bad,
        expected=shard.expected,
        damage=reader.damage,
        oddities=reader.oddities.as_dict(),
        seconds=time.monotonic() - started,
        device=device_name(scorer.device),
    )
    write_json(scorer.storage, PlanFolder(plan.id).summary(shard.index), summary.model_dump_json())
    return summary
