"""Parts of a scored pool that never was: drawn by shard, so that any of them can be drawn again to check a selection.

Their columns are a job's own. Scores have ties (CLIP scores in steps of 1e-4), every thousandth row repeats the uid of
another shard's row, every fiftieth is bad, and two rows each share a caption. There are no terms by checkpoint, which a
selection does not read.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from coreset.schemas.manifest import ShardSummary
from coreset.schemas.part import part_schema
from coreset.schemas.plan import Plan, PlannedModel, PlannedShard, Sourced
from coreset.spec.scores import SCORES, Score
from coreset.storage.storage import Storage
from coreset.storage.verified import write_json

ROWS = 10_000
"""Samples of a shard, as img2dataset and DataComp write them."""

SCORED = tuple(score for score in SCORES if score is not Score.SELF_INFLUENCE)
BAD_EVERY = 50
REPEATED_EVERY = 1000
CLUSTERS = 32

Columns = dict[str, np.ndarray]


def plan_of(shards: int) -> Plan:
    return Plan(
        shards=[PlannedShard(index=i, uri=f"s3://pool/{i:08d}.tar", size=1) for i in range(shards)],
        caption_field=None,
        checkpoints=[],
        model=PlannedModel(name="none", config={}, source="spec"),
        clip_model=None,
        clip_pretrained=None,
        target="training",
        reference_size=8,
        reference_seed=0,
        n_samples=Sourced(value=shards * ROWS, source="tar headers"),
        scores=list(SCORED),
        seed=0,
        clusters=CLUSTERS,
    )


def draw(shard: int) -> Columns:
    """Return the shard's rows: `halves` (ROWS, 2) u8, `bad` (ROWS,) bool, a float32 column a score, `cluster` and
    `caption` (ROWS,), whose text is its number."""
    random = np.random.default_rng(shard)
    halves = random.integers(0, 2**64, (ROWS, 2), dtype="u8")
    if shard:
        first = np.random.default_rng(shard - 1).integers(0, 2**64, (ROWS, 2), dtype="u8")
        halves[1::REPEATED_EVERY] = first[2::REPEATED_EVERY]
    scores = {score.value: random.standard_normal(ROWS, dtype="f4") for score in SCORED}
    clip = Score.CLIP_SCORE.value
    scores[clip] = np.round(0.25 + 0.05 * scores[clip], 4)
    bad = np.arange(ROWS) % BAD_EVERY == BAD_EVERY - 1
    cluster = random.integers(0, CLUSTERS, ROWS, dtype="i4")
    caption = shard * ROWS + np.arange(ROWS) // 2
    return {"halves": halves, "bad": bad, **scores, "cluster": cluster, "caption": caption}


def write_parts(storage: Storage, shards: int, processes: int) -> Plan:
    """Write the parts of a plan of so many shards, with the summaries that say they are whole."""
    plan = plan_of(shards)
    with ProcessPoolExecutor(processes) as pool:
        for _ in pool.map(partial(_write, storage.root, plan.id), range(shards), chunksize=16):
            pass
    return plan


def _write(root: str, plan_id: str, shard: int) -> None:
    storage, name = Storage(root), f"plans/{plan_id}/parts/{shard:06d}"
    table = _table(draw(shard), shard)
    part = storage.write_with(f"{name}.parquet", lambda file: pq.write_table(table, file), len(table))
    summary = ShardSummary(
        shard=shard, uri=f"{shard}.tar", part=part, read=len(table), scored=len(table), seconds=0, device="cpu"
    )
    write_json(storage, f"{name}.json", summary.model_dump_json())


def _table(drawn: Columns, shard: int) -> pa.Table:
    columns = {
        "uid": hex_of(drawn["halves"]),
        "shard": pa.array([f"{shard:08d}.tar"] * ROWS),
        "key": pa.array([f"{shard:08d}{row:05d}" for row in range(ROWS)]),
        "row": pa.array(np.arange(ROWS)),
        "uid_source": pa.array(["json"] * ROWS),
        "status": pa.array(np.where(drawn["bad"], "bad_image", "ok")),
    }
    columns |= {name: pa.array(drawn[name], mask=drawn["bad"]) for name in (*SCORED, "cluster")}
    columns["caption"] = pa.array(drawn["caption"].astype(str))
    schema = part_schema(plan_of(1))
    absent = {field.name: pa.nulls(ROWS, field.type) for field in schema if field.name not in columns}
    return pa.Table.from_pydict(columns | absent, schema=schema)


def hex_of(halves: np.ndarray) -> pa.Array:
    """Return (n, 2) u8 halves as an array of 32 hex digits each."""
    digits = np.frombuffer(halves.astype(">u8").tobytes().hex().encode(), "S32")
    return pa.array(digits.astype("U32"))


def good_rows(shards: int) -> Iterator[Columns]:
    """Yield the rows that have scores, shard by shard."""
    for shard in range(shards):
        drawn = draw(shard)
        good = ~drawn.pop("bad")
        yield {name: column[good] for name, column in drawn.items()}
