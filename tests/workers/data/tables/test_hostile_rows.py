"""Files of rows made to harm: paths that lead elsewhere, bombs, lines without end, and what kills its reader."""

import os
import random
import resource
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coreset.access.locations import Locations
from coreset.errors import ShardUnreadable, Unavailable
from coreset.schemas.part import OddityKind
from coreset.schemas.plan import PlannedRows, PlannedShard
from coreset.spec.pool import PoolSpec
from coreset_workers.data import opening
from coreset_workers.data.listing import list_shards
from coreset_workers.data.shards import open_shard
from coreset_workers.data.tables import child, lists, process, rows
from coreset_workers.data.tables.process import DamagedRows, ask
from coreset_workers.data.tar import RawSample
from coreset_workers.data.tar_stream import MAX_EXPANSION
from tests.field.pools import jpeg
from tests.workers.data.pool_formats import write_arrow, write_csv, write_parquet

MEGABYTE = 2**20
ROWS = [{"key": f"{i:03}", "jpg": jpeg(i), "txt": f"caption {i}"} for i in range(50)]


def shard_of(path: Path) -> PlannedShard:
    (shard,) = list_shards(PoolSpec(shards=[str(path)]))
    return shard


def read(shard: PlannedShard) -> tuple[list[RawSample], str | None]:
    reader = open_shard(shard)
    return list(reader), reader.damage


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """A folder with a picture in it, beside another folder whose picture is not the pool's."""
    for name in ("pool", "pool-of-others"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(jpeg(1))
    return tmp_path / "pool"


@pytest.mark.parametrize(
    "path",
    [
        "../pool-of-others/a.jpg",
        "{others}/a.jpg",
        "link.jpg",
        "folder/a.jpg",
        "x/../../pool-of-others/a.jpg",
        "file://{others}/a.jpg",
        "http://127.0.0.1:1/a.jpg",
        "s3://bucket/a.jpg",
        "a.jpg::{others}/a.jpg",
        "~/a.jpg",
        "a.jpg\0",
        ".",
        "nothing.jpg",
        "pipe",
    ],
)
def test_no_path_leads_out_of_the_folder_of_its_file(path: str, pool: Path) -> None:
    others = pool.parent / "pool-of-others"
    (pool / "link.jpg").symlink_to(others / "a.jpg")
    (pool / "folder").symlink_to(others)
    os.mkfifo(pool / "pipe")
    text = path.format(others=others)
    pq.write_table(
        pa.table({"image_path": [text, "a.jpg", str(pool / "a.jpg")], "text": ["x"] * 3}), pool / "p.parquet"
    )
    reader = open_shard(shard_of(pool / "p.parquet"))
    assert [sample.image() for sample in reader] == [None, jpeg(1), jpeg(1)]
    found = reader.oddities.as_dict()[OddityKind.UNREADABLE_PATH]
    assert (found.count, found.example) == (1, f"{text} of {pool / 'p.parquet'}")


def test_paths_are_opened_below_allowed_folders_alone(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = shard_of(write_csv(ROWS[:1], pool))
    monkeypatch.setattr(opening, "_locations", Locations.parse(f"{pool}/images"))
    with pytest.raises(Exception, match="below none of the allowed prefixes"):
        read(shard)


def test_a_child_opens_what_its_parent_may(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = shard_of(write_parquet(ROWS, pool))
    monkeypatch.setattr(opening, "_locations", Locations.parse(f"{pool}/images"))
    with pytest.raises(ShardUnreadable, match="below none of the allowed prefixes"):
        read(shard)


def test_a_huge_file_is_not_read_as_an_image(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_FILE_BYTES", len(jpeg(1)) - 1)
    (pool / "p.csv").write_text("file_name,text\na.jpg,x\n")
    (sample,), _ = read(shard_of(pool / "p.csv"))
    assert sample.image() is None


@pytest.mark.parametrize("written", [write_parquet, write_arrow])
def test_one_image_that_stands_for_a_million_is_a_bomb(written: object, tmp_path: Path) -> None:
    """A dictionary repeats 1 MB in each of 5,000 rows of a small file."""
    image = random.Random(0).randbytes(MEGABYTE)
    picture = pa.DictionaryArray.from_arrays(pa.array([0] * 5000, pa.int32()), pa.array([image]))
    table = pa.table({"jpg": picture, "txt": ["a"] * 5000})
    path = tmp_path / ("a.parquet" if written is write_parquet else "a.arrow")
    if written is write_parquet:
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    assert path.stat().st_size < 2 * MEGABYTE
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reader, count = open_shard(shard_of(path)), 0
    for _ in reader:
        count += 1
    assert reader.damage == f"unpacks to more than {MAX_EXPANSION} times its size"
    assert 100 < count < 200
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 256 * MEGABYTE


@pytest.mark.slow
def test_a_page_that_does_not_fit_into_memory_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1 GB of zeros in a page: the child's limit of memory ends the reading, not the machine's."""
    path, zeros = tmp_path / "a.parquet", [bytes(64 * MEGABYTE)] * child.ROWS_TOGETHER
    table = pa.table({"jpg": zeros, "txt": ["a"] * len(zeros)})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)
    assert path.stat().st_size < MEGABYTE
    process.end_children()
    monkeypatch.setattr(process, "MAX_CHILD_BYTES", 3 * 2**29)
    assert len(read(shard_of(write_parquet(ROWS, tmp_path)))[0]) == 50
    with pytest.raises(ShardUnreadable, match=r"damaged or of another format|the process that read it died"):
        read(shard_of(path))
    process.end_children()


def test_a_value_above_the_limit_is_taken_for_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "MAX_MEMBER_BYTES", 10)
    row = {
        "jpg": b"1" * 11,
        "image": {"bytes": b"1" * 11, "path": "a"},
        "txt": ["a" * 6, "b" * 6],
        "n": 1,
        "s": "short",
    }
    assert child._bounded(row) == {"jpg": None, "image": None, "txt": None, "n": 1, "s": "short"}


def test_a_line_without_an_end_is_damage(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(lists, "BLOCK_BYTES", 64)
    (pool / "p.jsonl").write_text('{"file_name": "a.jpg", "text": "x"}\n' + "x" * 1000)
    (pool / "p.csv").write_text("file_name,text\na.jpg,x\n" + "x" * 1000)
    for name in ("p.jsonl", "p.csv"):
        with pytest.raises(ShardUnreadable, match="a line of more than 100 bytes after byte"):
            list_shards(PoolSpec(shards=[str(pool / name)]))
        planned = PlannedRows(image="file_name", captions=["text"])
        samples, damage = read(PlannedShard(index=0, uri=str(pool / name), size=1, rows=planned))
        assert [sample.image() for sample in samples] == [jpeg(1)]
        assert str(damage).startswith("a line of more than 100 bytes")


def test_a_quote_that_is_never_closed_ends(pool: Path) -> None:
    (pool / "p.csv").write_text('file_name,text\na.jpg,"x\n' + "word word\n" * 14_000)
    samples, damage = read(shard_of(pool / "p.csv"))
    assert damage is None
    assert sum(sample.image() is not None for sample in samples) <= 1


def test_rows_before_a_broken_page_are_delivered(tmp_path: Path) -> None:
    path = write_parquet(ROWS, tmp_path, row_group_size=20, compression="none")
    shard = shard_of(path)
    content = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(2).column(1)
    content[column.data_page_offset : column.data_page_offset + 10] = bytes(10)
    path.write_bytes(content)
    samples, damage = read(shard)
    assert len(samples) == 2 * child.ROWS_TOGETHER
    assert damage is not None


def test_whatever_is_in_a_file_its_reader_ends_with_samples_or_a_word(tmp_path: Path) -> None:
    """Mutated files of both kinds; offsets of an Arrow file that lie outside of its buffers must not be followed."""
    generator = random.Random(7)
    for written in (write_parquet, write_arrow):
        path = written(ROWS, tmp_path)
        shard, content = shard_of(path), path.read_bytes()
        for _ in range(20):
            mutated = bytearray(content)
            for _ in range(generator.randint(1, 8)):
                mutated[generator.randrange(len(mutated))] = generator.randrange(256)
            path.write_bytes(mutated[: generator.choice([None, generator.randrange(len(mutated))])])
            try:
                samples, _ = read(shard)
            except ShardUnreadable:
                continue
            assert len(samples) <= 50


def test_a_child_that_dies_is_damage_and_another_takes_its_place(tmp_path: Path) -> None:
    path = write_parquet(ROWS, tmp_path)
    answers = ask("read_parquet", str(path), "jpg", 0, None)
    assert len(next(answers)[1]) == child.ROWS_TOGETHER
    answers.close()
    read(shard_of(path))
    process._idle[-1].process.kill()
    with pytest.raises(DamagedRows, match="the process that read it died"):
        list(ask("describe_parquet", str(path)))
    assert shard_of(path).expected == 50


def test_a_storage_that_breaks_off_is_no_damage(tmp_path: Path) -> None:
    """The child's file raises Unavailable through pyarrow, and the parent hears of that and not of a broken file."""

    class Broken:
        def read(self, size: int) -> bytes:
            raise ConnectionResetError

        def seek(self, offset: int, whence: int = 0) -> int:
            return 1000

        def tell(self) -> int:
            return 1000

        def close(self) -> None:
            pass

    with pytest.raises(Unavailable, match=r"x broke off \(ConnectionResetError\)"):
        list(child.describe_parquet(child._File(Broken(), "x"), "x"))  # type: ignore[arg-type]
