"""Files made to harm beside shards or in their place: read within bounds, and devices not at all."""

import json
import os
import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coreset.errors import CheckpointUnusable, CoresetError, LocationForbidden, ShardUnreadable
from coreset.spec.pool import PoolSpec
from coreset_workers.checkpoints.files import load
from coreset_workers.data.listing import list_shards
from coreset_workers.data.parquet_counts import MAX_ROWS, ParquetCounter
from coreset_workers.data.tar import ShardReader
from tests.field.pools import sample, write_tar
from tests.fuzz.parquets import mutated

MEGABYTE = 2**20
SEED = 9


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "0.tar", [m for i in range(4) for m in sample(f"{i}", i)])


def expected(shard: Path) -> int | None:
    return list_shards(PoolSpec(shards=[str(shard)]))[0].expected


def write_statuses(path: Path, text: str, rows: int) -> None:
    """A parquet of a few hundred bytes: one text and a run of indices of it."""
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, "int8")), pa.array([text]))
    pq.write_table(pa.table({"status": column}), path, compression="zstd")


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize(("text", "rows"), [("success", MAX_ROWS + 1), ("s" * 10**6, 10**5)])
def test_a_small_parquet_of_many_rows_or_a_long_text_takes_no_memory(shard: Path, text: str, rows: int) -> None:
    path = shard.with_suffix(".parquet")
    write_statuses(path, text, rows)
    assert path.stat().st_size < 50_000
    before = peak()
    assert expected(shard) in (None, 0)
    assert peak() - before < 64 * MEGABYTE


def test_the_successes_of_a_parquet_are_counted(shard: Path) -> None:
    statuses = ["success", "failed_to_download", None, "success"]
    pq.write_table(pa.table({"status": statuses}), shard.with_suffix(".parquet"))
    assert expected(shard) == 2


def test_mutated_parquets_give_a_count_or_none_and_leave_this_process_alive() -> None:
    """Arrow ends the process that reads seed SEED; the next file gets a new one."""
    counter = ParquetCounter()
    try:
        found = [counter.count(mutated(seed)) for seed in (*range(SEED + 1), 10**6)]
    finally:
        counter.close()
    assert found[SEED] is None
    assert any(one is not None for one in found)


@pytest.mark.parametrize("successes", [10**9, 10**6, True, 1e3])
def test_a_number_that_cannot_be_in_the_shard_is_not_believed(shard: Path, successes: object) -> None:
    (shard.parent / "0_stats.json").write_text(json.dumps({"successes": successes}))
    (shard.parent / "sizes.json").write_text(json.dumps({"0.tar": successes}))
    assert expected(shard) is None


@pytest.fixture(params=["/dev/zero", "fifo"])
def special(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "fifo":
        os.mkfifo(tmp_path / "fifo.tar")
        return str(tmp_path / "fifo.tar")
    (tmp_path / "link.tar").symlink_to(request.param)
    return str(tmp_path / "link.tar")


def test_a_special_file_as_shard_is_refused(special: str) -> None:
    with pytest.raises(LocationForbidden, match="is not a regular file"):
        list_shards(PoolSpec(shards=[special]))
    with pytest.raises(LocationForbidden, match="is not a regular file"):
        list(ShardReader(special))


def test_a_special_file_as_checkpoint_is_refused(special: str) -> None:
    with pytest.raises(CoresetError, match="is not a regular file") as caught:
        load(special)
    assert isinstance(caught.value, LocationForbidden | CheckpointUnusable | ShardUnreadable)


def test_a_special_file_beside_a_shard_announces_nothing(shard: Path) -> None:
    (shard.parent / "0_stats.json").symlink_to("/dev/zero")
    os.mkfifo(shard.parent / "0.parquet")
    assert expected(shard) is None
