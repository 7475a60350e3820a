"""Listing shards: what a caller writes, which files it means, and how many samples they should hold."""

import gzip
import io
import json
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coreset.errors import LocationForbidden, ShardUnreadable
from coreset.schemas.plan import PlannedShard
from coreset.spec.pool import PoolSpec
from coreset_workers.data.listing import changed, count_samples, expand, list_shards
from coreset_workers.data.tar import ShardReader
from demo.pool import write_pool


def write_tar(path: Path, *names: str) -> None:
    with tarfile.open(path, "w") as tar:
        for name in names:
            header = tarfile.TarInfo(name)
            header.size = 3
            tar.addfile(header, io.BytesIO(b"abc"))


def listed(*uris: object) -> list[PlannedShard]:
    return list_shards(PoolSpec(shards=[str(uri) for uri in uris]))


@pytest.mark.parametrize(
    ("uris", "expanded"),
    [
        (["/pool/{000000..000002}.tar"], ["/pool/000000.tar", "/pool/000001.tar", "/pool/000002.tar"]),
        (["/a.tar::/b.tar", "/c.tar"], ["/a.tar", "/b.tar", "/c.tar"]),
        (["/{a,b}.tar :: /c{1..2}.tar"], ["/a.tar", "/b.tar", "/c1.tar", "/c2.tar"]),
        (["s3://bucket/{00..01}.tar"], ["s3://bucket/00.tar", "s3://bucket/01.tar"]),
        (["file:/pool/0.tar"], ["/pool/0.tar"]),
        (["/{z,a}.tar"], ["/z.tar", "/a.tar"]),
    ],
)
def test_braces_and_double_colons_are_expanded_in_order(uris: list[str], expanded: list[str]) -> None:
    assert expand(uris) == expanded


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert expand(["pool/{0..1}.tar"]) == [f"{tmp_path}/pool/0.tar", f"{tmp_path}/pool/1.tar"]


@pytest.mark.parametrize("uri", ["/pool/{000.tar", "/pool/000}.tar", "/{a,{b}.tar"])
def test_braces_that_do_not_match_are_refused(uri: str) -> None:
    with pytest.raises(ShardUnreadable, match="the braces do not match") as caught:
        expand(["/fine.tar", uri])
    assert caught.value.data == {"uri": uri}


def test_shards_that_are_listed_twice_are_named() -> None:
    with pytest.raises(ShardUnreadable, match=r"listed twice: /p/1\.tar, /p/2\.tar$") as caught:
        expand(["/p/{0..2}.tar", "/p/2.tar::/p/1.tar"])
    assert caught.value.data == {"shards": ["/p/1.tar", "/p/2.tar"]}


def test_shards_come_with_size_and_modification_time(tmp_path: Path) -> None:
    paths = write_pool(tmp_path, samples=40, shards=2)
    first, second = listed(tmp_path / "{000000..000001}.tar")
    assert [(s.index, s.uri, s.size) for s in (first, second)] == [
        (i, str(path), path.stat().st_size) for i, path in enumerate(paths)
    ]
    assert first.etag
    assert (first.expected, first.expected_source) == (None, None)
    paths[0].write_bytes(b"changed")
    assert listed(paths[0])[0].etag != first.etag


def test_missing_shards_are_named_but_ten_at_most(tmp_path: Path) -> None:
    write_tar(tmp_path / "00.tar", "a.txt")
    with pytest.raises(ShardUnreadable) as caught:
        listed(tmp_path / "{00..14}.tar")
    words = caught.value.detail
    assert words.startswith(f"14 of 15 shards cannot be opened: {tmp_path}/01.tar (not found), ")
    assert f"{tmp_path}/10.tar (not found) and 4 more." in words
    assert f"{tmp_path}/11.tar" not in words
    assert len(caught.value.data["shards"]) == 10


def test_what_is_no_file_is_named_with_the_reason(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", "a.txt")
    with pytest.raises(ShardUnreadable, match=r"\(NotADirectoryError\)|\(not found\)"):
        listed(tmp_path / "0.tar/inside.tar")


def test_a_storage_that_is_not_known_is_named_with_the_reason() -> None:
    with pytest.raises(LocationForbidden, match=r"nosuch://x/0\.tar is not allowed: nosuch: is not read"):
        listed("nosuch://x/0.tar")


def test_expected_counts_come_from_the_files_beside_the_shards_in_a_fixed_order(tmp_path: Path) -> None:
    for name in ("0.tar", "1.tar", "2.tar", "3.tar"):
        write_tar(tmp_path / name, *(f"{number}.txt" for number in range(100)))
    statuses = ["success"] * 7 + ["failed_to_download", "success", None]
    for stem in ("0", "1", "2"):
        pq.write_table(pa.table({"status": statuses, "key": range(10)}), tmp_path / f"{stem}.parquet")
    (tmp_path / "sizes.json").write_text(json.dumps({"0.tar": 50, "1.tar": 51}))
    (tmp_path / "0_stats.json").write_text(json.dumps({"count": 99, "successes": 90}))
    assert [(s.expected, s.expected_source) for s in listed(tmp_path / "{0..3}.tar")] == [
        (90, "stats.json"),
        (51, "sizes.json"),
        (8, "parquet"),
        (None, None),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("0_stats.json", b"{"),
        ("0_stats.json", b"[1]"),
        ("0_stats.json", b'{"successes": "many"}'),
        ("0_stats.json", b"\xff\xff"),
        ("sizes.json", b"17"),
        ("sizes.json", b'{"0.tar": null}'),
        ("0.parquet", b"no parquet"),
        ("0.parquet", b""),
    ],
)
def test_files_beside_the_shards_that_cannot_be_read_tell_nothing(tmp_path: Path, name: str, content: bytes) -> None:
    write_tar(tmp_path / "0.tar", "a.txt")
    (tmp_path / name).write_bytes(content)
    assert listed(tmp_path / "0.tar")[0].expected is None


def test_a_parquet_without_a_status_tells_nothing(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", "a.txt")
    pq.write_table(pa.table({"uid": ["a"]}), tmp_path / "0.parquet")
    assert listed(tmp_path / "0.tar")[0].expected is None


@pytest.mark.parametrize(
    ("names", "count"),
    [
        ((), 0),
        (("a.txt", "b.txt", "a.jpg"), 2),
        (("./a.txt", "./a.jpg", "./b.txt"), 2),
        (("x.1/a.txt", "x.1/b.seg.png", "x.1/b.txt", "y/a.txt"), 3),
        (("a.txt", "__index__.json"), 1),
    ],
)
def test_samples_are_counted_from_the_headers_as_they_are_read(
    tmp_path: Path, names: tuple[str, ...], count: int
) -> None:
    write_tar(tmp_path / "0.tar", *names)
    (shard,) = listed(tmp_path / "0.tar")
    assert count_samples(shard) == len(list(ShardReader(shard.uri))) == count


def test_a_pools_samples_are_counted(tmp_path: Path) -> None:
    write_pool(tmp_path, samples=41, shards=2)
    assert [count_samples(shard) for shard in listed(tmp_path / "{000000..000001}.tar")] == [20, 21]


def test_only_local_uncompressed_tars_are_counted(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", "a.txt")
    (tmp_path / "0.tar.gz").write_bytes(gzip.compress((tmp_path / "0.tar").read_bytes()))
    (tmp_path / "1.tar").write_bytes(b"no tar")
    (tmp_path / "2.tar").write_bytes((tmp_path / "0.tar.gz").read_bytes())
    assert [count_samples(shard) for shard in listed(tmp_path / "0.tar.gz", tmp_path / "{1..2}.tar")] == [None] * 3
    assert count_samples(PlannedShard(index=0, uri="s3://bucket/0.tar", size=1)) is None


def test_a_shard_that_is_written_anew_has_changed_though_its_size_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    write_tar(path, "a.txt")
    (shard,) = listed(path)
    assert changed(shard) is None
    assert changed(shard.model_copy(update={"etag": None})) is None
    before = path.stat()
    write_tar(path, "b.txt")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
    assert path.stat().st_size == before.st_size == shard.size
    assert changed(shard) == "has changed since the job was planned"
