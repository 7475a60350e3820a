"""Seconds of every way to select, and to read scores, over a million drawn samples.

python -m benchmarks.scale.rules --json OUT
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.environment import environment
from benchmarks.scale.parts import plan_of
from coreset.browsing.score_query import Format, ScoreQuery
from coreset.browsing.score_rows import export_scores
from coreset.schemas.manifest import ShardSummary
from coreset.schemas.part import part_schema
from coreset.schemas.plan import PART_VERSION, Plan
from coreset.selection.select import select
from coreset.spec.selection import SelectSpec
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage
from coreset.storage.verified import write_json

SHARDS, ROWS = 100, 10_000
WORDS = np.array(["a", "red", "bicycle", "in", "front", "of", "the", "old", "station", "at", "night"])

BOTH = {"diffin": 1, "clip_score": 1}
SPECS: dict[str, dict[str, Any]] = {
    "a mix of ranks": {"recipe": "target_balanced"},
    "one score": {"by": "clip_score"},
    "an intersection": {"by": BOTH, "combine": "intersection"},
    "a threshold": {"fraction": None, "threshold": 0.25, "by": "clip_score", "scale": "raw"},
    "winsorised z-scores": {"by": BOTH, "scale": "zscore", "winsorise": 0.01},
    "without the worst tenth": {"by": "clip_score", "filters": {"diffin": {"min_rank": 0.1}}},
    "filters of captions and sizes": {
        "filters": {
            "clip_score": {"min": -1},
            "caption_length": {"min": 6},
            "caption_words": {"min": 3},
            "image_short_side": {"min": 200},
            "aspect_ratio": {"max": 3},
        }
    },
    "a filter of metadata": {"filters": {"metadata_language": {"any_of": ["en", "de"]}}},
    "at most 2 % a cluster": {"fraction": 0.1, "quota": {"field": "cluster", "max_share": 0.02}},
    "the same share of every cluster": {"quota": {"field": "cluster", "balance": "proportional"}},
    "each caption once": {"fraction": 0.1, "quota": {"field": "caption", "max": 1}},
    "a draw": {"sampling": {"temperature": 0.1}},
    "a draw with repetition": {"sampling": {"temperature": 0.1, "max_repeats": 5}},
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", type=Path, required=True)
    with tempfile.TemporaryDirectory() as folder:
        storage, plan = Storage(folder), _plan()
        for shard in range(SHARDS):
            _write_part(storage, plan, shard)
        selections = {name: _seconds(lambda n=name: _select(storage, plan, n)) for name in SPECS}
        uids = ["0" * 24 + f"{i:08x}" for i in range(0, SHARDS * ROWS, 33_333)]
        wanted = {
            "one uid": ScoreQuery(uid=uids[:1]),
            "31 uids": ScoreQuery(uid=uids),
            "a shard": ScoreQuery(shard="00000007.tar"),
            **{f"all, {kind}": ScoreQuery(format=kind) for kind in get_args(Format)},
        }
        read = {name: _seconds(lambda w=each: _read(storage, plan, w)) for name, each in wanted.items()}
    found = {"environment": environment(), "rows": SHARDS * ROWS, "select_seconds": selections, "read_seconds": read}
    arguments.parse_args().json.write_text(json.dumps(found, indent=2) + "\n")


def _plan() -> Plan:
    more = {"part_version": PART_VERSION, "metadata": ["language"], "clusters": 64}
    return plan_of(SHARDS).model_copy(update=more)


def _write_part(storage: Storage, plan: Plan, shard: int) -> None:
    numbers = np.random.default_rng(shard)
    first = shard * ROWS
    schema = part_schema(plan)
    columns: dict[str, Any] = {
        "uid": [f"{first + i:032x}" for i in range(ROWS)],
        "shard": [f"{shard:08d}.tar"] * ROWS,
        "key": [f"{first + i:09d}" for i in range(ROWS)],
        "row": np.arange(ROWS),
        "uid_source": ["json"] * ROWS,
        "status": ["ok"] * ROWS,
        "caption": [" ".join(words) for words in numbers.choice(WORDS, (ROWS, 8))],
        "image_width": numbers.integers(100, 1000, ROWS, dtype=np.int32),
        "image_height": numbers.integers(100, 1000, ROWS, dtype=np.int32),
        "metadata_language": numbers.choice(["en", "de", "fr"], ROWS),
        "cluster": numbers.integers(0, 64, ROWS, dtype=np.int32),
        **{score.value: numbers.normal(size=ROWS).astype(np.float32) for score in plan.scores},
    }
    terms = [field for field in schema if field.name not in columns]
    columns |= {field.name: pa.nulls(ROWS, field.type) for field in terms}
    table = pa.table(columns, schema)
    name = PlanFolder(plan.id).part(shard)
    part = storage.write_with(name, lambda file: pq.write_table(table, file), ROWS)
    summary = ShardSummary(shard=shard, uri=f"{shard}.tar", part=part, read=ROWS, scored=ROWS, seconds=0, device="cpu")
    write_json(storage, PlanFolder(plan.id).summary(shard), summary.model_dump_json())


def _select(storage: Storage, plan: Plan, name: str) -> None:
    given = {"fraction": 0.3} | SPECS[name]
    select(storage, plan, "job", SelectSpec.model_validate(given))


def _read(storage: Storage, plan: Plan, wanted: ScoreQuery) -> int:
    return sum(map(len, export_scores(storage, plan, wanted, wanted.format or "ndjson")))


def _seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return round(time.monotonic() - started, 2)


if __name__ == "__main__":
    main()
