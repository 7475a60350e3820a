"""Conversion to WebDataset: the same samples with the same uids, readable by webdataset, continued after an end."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coreset.spec.pool import PoolSpec
from coreset.storage.storage import Storage
from coreset_workers.conversion.__main__ import words
from coreset_workers.conversion.convert import convert
from coreset_workers.data.listing import list_shards
from coreset_workers.data.shards import open_shard
from coreset_workers.data.tables import slices
from demo.pool import write_pool
from tests.field.pools import jpeg, loader
from tests.workers.data.pool_formats import WRITERS, rows_of, write_csv, write_parquet
from tests.workers.data.test_webdataset_contract import by_webdataset

ROWS = [{"key": f"{i:03}", "jpg": jpeg(i), "txt": f"caption {i}"} for i in range(30)]


def uids(shards: str) -> list[tuple[str, str]]:
    raw = [sample for shard in list_shards(PoolSpec(shards=[shards])) for sample in open_shard(shard)]
    return [(sample.uid, sample.status.value) for sample in loader().decode(raw)]


@pytest.mark.parametrize("kind", WRITERS)
def test_converted_shards_have_the_uids_and_faults_of_the_pool(kind: str, tmp_path: Path) -> None:
    (tar,) = write_pool(tmp_path / "tar", 40, shards=1)
    path = WRITERS[kind](rows_of(tar), tmp_path)
    out = Storage(str(tmp_path / "out"))
    done = convert(PoolSpec(shards=[str(path)]), out)
    assert (done.samples, done.shards) == (40, 1)
    assert uids(f"{tmp_path}/out/00000000.tar") == uids(str(path)) == uids(str(tar))
    assert list_shards(PoolSpec(shards=[str(tmp_path / "out")]))[0].expected == 40


def test_webdataset_reads_keys_with_dots_and_reserved_names(tmp_path: Path) -> None:
    names = ["a.b.jpg", "a_b.jpg", "x/._hidden.jpg", "__url__.jpg", "x/plain.jpg"]
    (tmp_path / "x").mkdir()
    for i, name in enumerate(names):
        (tmp_path / name).write_bytes(jpeg(i))
    (tmp_path / "p.csv").write_text("file_name,text\n" + "".join(f"{name},{name}\n" for name in names))
    convert(PoolSpec(shards=[str(tmp_path / "p.csv")]), Storage(str(tmp_path / "out")))
    found, _ = by_webdataset(tmp_path / "out/00000000.tar")
    assert list(found) == ["a_b", "a_b#2", "row-2", "row-3", "x/plain"]
    assert [sample["txt"].decode() for sample in found.values()] == names
    assert [sample["jpg"] for sample in found.values()] == [jpeg(i) for i in range(5)]


def test_a_conversion_goes_on_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "ROWS_PER_SHARD", 10)
    path, out = write_csv(ROWS, tmp_path), tmp_path / "out"
    pool, tars = PoolSpec(shards=[str(path)]), [out / f"{i:08d}.tar" for i in range(3)]
    assert convert(pool, Storage(str(out))).written_before == 0
    before = [tar.read_bytes() for tar in tars]
    (out / "00000001_stats.json").unlink()
    times = [tar.stat().st_mtime_ns for tar in tars]
    again = convert(pool, Storage(str(out)))
    assert again.written_before == 2
    assert [tar.read_bytes() for tar in tars] == before
    assert [tar.stat().st_mtime_ns == time for tar, time in zip(tars, times, strict=True)] == [True, False, True]
    assert json.loads((out / "sizes.json").read_text()) == {tar.name: 10 for tar in tars}
    write_csv([{**row, "txt": "other"} for row in ROWS], tmp_path)
    assert convert(pool, Storage(str(out))).written_before == 0


def test_what_was_left_out_is_said(tmp_path: Path) -> None:
    rows = [*ROWS[:2], {**ROWS[2], "jpg": None}]
    done = convert(PoolSpec(shards=[str(write_parquet(rows, tmp_path))]), Storage(str(tmp_path / "out")))
    assert words(done) == f"3 samples, 1 of them without an image in 1 shards: {done.out}"


def test_the_command_starts_the_conversion_with_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    from coreset.cli.app import app
    from coreset.cli.up import UpContext
    from coreset.settings import StackSettings

    started: list[list[str]] = []

    def execve(path: str, arguments: list[str], environment: object) -> None:
        started.append(arguments)

    monkeypatch.setattr("coreset.cli.up.os.execve", execve)
    result = CliRunner().invoke(
        app, ["convert", "a.csv", "b/*.parquet", "--out", "x", "--caption-field", "c"], obj=UpContext(StackSettings)
    )
    assert result.exit_code == 0, result.output
    assert started[0][3:] == [
        *("coreset_workers.conversion", "--out", "x", "--caption-field", "c", "--", "a.csv", "b/*.parquet")
    ]
