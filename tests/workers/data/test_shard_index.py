"""Indexes of shards: what they say is believed, and what they cannot say is asked for."""

import json
from pathlib import Path
from typing import Any

import pytest

from coreset.access.locations import Locations
from coreset.errors import LocationForbidden, ShardUnreadable
from coreset.schemas.plan import PlannedShard
from coreset.spec.pool import PoolSpec
from coreset_workers.data import listing, opening
from coreset_workers.data.listing import list_shards
from demo.pool import write_pool


def write_index(path: Path, *entries: Any) -> str:
    path.write_text(json.dumps({"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": list(entries)}))
    return str(path)


def listed(*uris: str) -> list[PlannedShard]:
    return list_shards(PoolSpec(shards=list(uris)))


def test_shards_of_an_index_are_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = write_index(
        tmp_path / "index.json",
        {"url": "a/1.tar", "filesize": 10_240, "nsamples": 7, "md5sum": "0"},
        {"url": "s3://bucket/2.tar", "filesize": 20_480, "nsamples": 9},
    )
    monkeypatch.setattr(listing, "file_info", lambda uri: pytest.fail(f"asked for {uri}"))
    assert [shard.model_dump() for shard in listed(index)] == [
        {"index": 0, "uri": f"{tmp_path}/a/1.tar", "size": 10_240, "etag": None} | counted(7),
        {"index": 1, "uri": "s3://bucket/2.tar", "size": 20_480, "etag": None} | counted(9),
    ]


def counted(samples: int) -> dict[str, Any]:
    return {"expected": samples, "expected_source": "shard index"}


def test_what_an_index_lacks_is_asked_for_and_counts_that_cannot_be_are_not_believed(tmp_path: Path) -> None:
    paths = write_pool(tmp_path, samples=40, shards=2)
    index = write_index(tmp_path / "all.json", {"url": paths[0].name}, {"url": paths[1].name, "nsamples": 10**9})
    found = listed(index)
    assert [(s.uri, s.size, s.expected) for s in found] == [(str(p), p.stat().st_size, None) for p in paths]
    assert [shard.model_copy(update={"index": 0}) for shard in found] == [listed(str(p))[0] for p in paths]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("no json", "is no index of shards; expected"),
        ("[1]", "is no index of shards"),
        ('{"shardlist": []}', "is no index of shards"),
        ('{"shardlist": [{"nsamples": 3}]}', "without the `url` of one shard"),
        ('{"shardlist": [{"url": "*.tar"}]}', "without the `url` of one shard"),
        ('{"shardlist": [{"url": "1.tar", "filesize": 1}, {"url": "./1.tar", "filesize": 1}]}', "listed twice"),
    ],
)
def test_what_is_no_index_is_refused_with_the_format(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(ShardUnreadable, match=words):
        listed(str(tmp_path / "index.json"))


def test_an_index_leads_to_allowed_places_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = write_index(tmp_path / "index.json", {"url": "/etc/1.tar", "filesize": 1, "nsamples": 1})
    monkeypatch.setattr(opening, "_locations", Locations.parse(str(tmp_path)))
    with pytest.raises(LocationForbidden):
        listed(index)
    with pytest.raises(ShardUnreadable, match="cannot be read: FileNotFoundError"):
        listed(str(tmp_path / "missing.json"))
