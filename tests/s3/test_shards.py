"""Shards on S3: all samples or an error."""

from pathlib import Path

import pytest
import s3fs

from coreset.errors import ShardUnreadable, Unavailable
from coreset.spec.pool import PoolSpec
from coreset_workers.data import folders
from coreset_workers.data.listing import changed, list_shards
from coreset_workers.data.opening import names_in
from coreset_workers.data.tar import RawSample, ShardReader
from tests.s3.faulty_proxy import FaultyProxy, now_and_then


@pytest.fixture
def shard(bucket: str, tiny_pool: Path) -> str:
    s3fs.S3FileSystem().put(str(tiny_pool / "000000.tar"), f"{bucket}/pool/000000.tar")
    return f"{bucket}/pool/000000.tar"


def read(uri: str) -> list[RawSample]:
    (planned,) = list_shards(PoolSpec(shards=[uri]))
    reader = ShardReader(planned.uri, planned.size)
    samples = list(reader)
    assert reader.damage is None
    return samples


def elsewhere(path: Path, uri: str) -> None:
    """Write an object as another machine does: nothing that this process remembers of the bucket hears of it."""
    s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True).put(str(path), uri)


def test_a_folder_of_many_shards_is_listed_once_and_its_shards_are_the_same(
    shard: str, bucket: str, proxy: FaultyProxy, tiny_pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 5):
        s3fs.S3FileSystem().put(str(tiny_pool / "000000.tar"), f"{bucket}/pool/00000{number}.tar")
    s3fs.S3FileSystem().pipe(f"{bucket}/pool/000002_stats.json", b'{"successes": 3}')
    pool = PoolSpec(shards=[f"{bucket}/pool/{{000000..000004}}.tar"])
    asked: list[str] = []
    proxy.choose = lambda method, path: asked.append(f"{method} {path}")
    apart = list_shards(pool)
    assert len(asked) > 15
    asked.clear()
    monkeypatch.setattr(folders, "MIN_SHARDS", 2)
    assert list_shards(pool) == apart
    assert [shard.expected for shard in apart] == [None, None, 3, None, None]
    assert len(asked) <= 3, "the listing, and the file of samples"
    monkeypatch.setattr(folders, "entries_in", lambda folder: None)  # a key that may not list
    assert list_shards(pool) == apart


@pytest.mark.parametrize(
    "fault",
    [pytest.param("error", marks=pytest.mark.slow), "slow", pytest.param("cut", marks=pytest.mark.slow), "short"],
)
def test_a_shard_comes_whole_under_every_fault(shard: str, proxy: FaultyProxy, fault: str, tiny_pool: Path) -> None:
    expected = [sample.members for sample in ShardReader(str(tiny_pool / "000000.tar"))]
    proxy.choose = now_and_then(fault, 0.4, seed=2, methods=("GET",))
    for _ in range(3):
        assert [sample.members for sample in read(shard)] == expected
    assert proxy.counts[fault] > 0


@pytest.mark.parametrize("fault", [pytest.param("error", marks=pytest.mark.slow), "cut"])
def test_a_transfer_that_never_ends_well_is_an_error_not_a_short_shard(
    shard: str, proxy: FaultyProxy, fault: str
) -> None:
    (planned,) = list_shards(PoolSpec(shards=[shard]))
    proxy.choose = lambda method, path: fault if method == "GET" and path.endswith(".tar") else None
    reader = ShardReader(planned.uri, planned.size)
    with pytest.raises(Unavailable, match="broke off after 0 bytes"):
        list(reader)


@pytest.mark.slow
def test_a_storage_that_does_not_answer_is_no_missing_shard(shard: str, proxy: FaultyProxy) -> None:
    with pytest.raises(ShardUnreadable, match="not found"):
        list_shards(PoolSpec(shards=[shard.replace("000000", "000001")]))
    proxy.choose = lambda method, path: "error"
    with pytest.raises(Unavailable, match="cannot be reached now"):
        list_shards(PoolSpec(shards=[shard]))


def test_a_shard_that_is_written_anew_has_changed_for_a_worker_that_has_listed_it(shard: str, tiny_pool: Path) -> None:
    (planned,) = list_shards(PoolSpec(shards=[shard]))
    assert names_in(shard.rpartition("/")[0]) == ["000000.tar"]
    assert changed(planned) is None
    elsewhere(tiny_pool / "000001.tar", shard)
    assert changed(planned) == "has changed since the job was planned"


def test_what_was_added_to_a_folder_is_seen_by_a_worker_that_has_listed_it(shard: str, tiny_pool: Path) -> None:
    folder = shard.rpartition("/")[0]
    assert names_in(folder) == ["000000.tar"]
    elsewhere(tiny_pool / "000001.tar", f"{folder}/000001.tar")
    assert names_in(folder) == ["000000.tar", "000001.tar"]
