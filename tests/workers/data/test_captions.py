"""Several captions of an image: where they come from, their uids and faults, and the specs that ask for them."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from coreset import uids
from coreset.schemas.part import SampleStatus, UidSource
from coreset.spec.pool import Captions, PoolSpec, ScoredPoolSpec
from coreset_workers.data.decode import Sample, decode, decode_pairs
from coreset_workers.data.listing import list_shards
from coreset_workers.data.shards import open_shard
from coreset_workers.data.tar import MAX_CAPTIONS, RawSample
from tests.field.pools import Member, jpeg, write_tar
from tests.fuzz.shards import VIEWS
from tests.workers.data.pool_formats import write_jsonl, write_parquet

FIVE = ["one", "two", "three", "four", "five"]
UID = "0123456789abcdef0123456789abcdef"


def members(**json_fields: Any) -> list[Member]:
    texts = [("txt", "one"), ("10.txt", "five"), ("1.txt", "two"), ("2.txt", "three"), ("3.txt", "four")]
    named = [(f"a.{ext}", text.encode()) for ext, text in texts]
    return [("a.jpg", jpeg(1)), *named, ("a.json", json.dumps(json_fields).encode())]


def raw_of(path: Path, **fields: Any) -> RawSample:
    (shard,) = list_shards(PoolSpec(shards=[str(path)], **fields))
    (raw,) = open_shard(shard)
    return raw


def pairs(raw: RawSample, field: Any, mode: Captions | None) -> list[Sample]:
    return decode_pairs(raw, field, VIEWS, captions=mode)


def captions(samples: list[Sample]) -> list[str | None]:
    return [sample.caption for sample in samples]


def test_members_of_a_tar_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    raw = raw_of(write_tar(tmp_path / "a.tar", members()))
    found = pairs(raw, None, "best")
    assert captions(found) == FIVE
    assert [sample.caption_index for sample in found] == [0, 1, 2, 3, 4]
    assert {sample.uid for sample in found} == {uids.of_content(jpeg(1), b"one")}
    assert captions(pairs(raw, None, "first")) == captions(pairs(raw, None, None)) == ["one"]


def test_a_json_list_and_several_fields(tmp_path: Path) -> None:
    raw = raw_of(write_tar(tmp_path / "a.tar", members(many=FIVE, more=["six"], n=7, s="seven")))
    assert captions(pairs(raw, "many", "all")) == FIVE
    assert captions(pairs(raw, ["s", "many", "n", "nothing", "more"], "all")) == ["seven", *FIVE, "six"]
    assert captions(pairs(raw, "many", "first")) == ["one"]
    assert captions([decode(raw, ["s", "many"], VIEWS)]) == ["seven"]
    assert decode(raw, "many", VIEWS).status == SampleStatus.NO_CAPTION  # as before there was `captions`


@pytest.mark.parametrize("written", [write_parquet, write_jsonl])
def test_a_list_in_a_column(written: Any, tmp_path: Path) -> None:
    path = written([{"key": "a", "jpg": jpeg(1), "txt": "x", "many": FIVE}], tmp_path)
    raw = raw_of(path, caption_field="many")
    assert captions(pairs(raw, "many", "best")) == FIVE
    assert captions(pairs(raw, "many", None)) == ["one"]
    named = raw_of(path, caption_field=["txt" if written is write_parquet else "text", "many"])
    assert captions(pairs(named, None, "best")) == ["x", *FIVE]


def test_by_all_every_pair_is_a_sample_of_its_own(tmp_path: Path) -> None:
    raw = raw_of(write_tar(tmp_path / "a.tar", members(uid=UID)))
    found = pairs(raw, None, "all")
    assert [sample.uid for sample in found] == [UID, *(uids.of_content(jpeg(1), t.encode()) for t in FIVE[1:])]
    assert [sample.uid_source for sample in found] == [UidSource.JSON, *[UidSource.CONTENT] * 4]
    assert {sample.uid for sample in pairs(raw, None, "best")} == {UID}


def test_each_caption_has_a_status_and_a_bad_image_has_one_row() -> None:
    texts = {"txt": b" ", "1.txt": b"good", "2.txt": b"\xff", "jpg": jpeg(1)}
    found = pairs(RawSample("s", "a", 0, dict(texts), set(texts)), None, "best")
    assert [sample.status.value for sample in found] == ["empty_caption", "ok", "bad_caption"]
    assert [bool(sample.tokens) for sample in found] == [False, True, False]
    broken = pairs(RawSample("s", "a", 0, texts | {"jpg": b"x"}, set(texts)), None, "best")
    assert [sample.status.value for sample in broken] == ["bad_image"]
    without = pairs(RawSample("s", "a", 0, {"1.txt": b"x"}, {"1.txt"}), None, "all")
    assert [sample.status.value for sample in without] == ["no_image"]


def test_captions_are_bounded() -> None:
    texts = {f"{i}.txt": b"text" for i in range(200)} | {"jpg": jpeg(1)}
    assert len(pairs(RawSample("s", "a", 0, texts, set(texts)), None, "best")) == MAX_CAPTIONS


def test_a_list_of_fields_means_best_and_older_specs_stay_as_they_are() -> None:
    assert ScoredPoolSpec(shards=["a"], caption_field=["x", "y"]).captions == "best"
    assert ScoredPoolSpec(shards=["a"], caption_field=["x"], captions="all").captions == "all"
    plain = ScoredPoolSpec(shards=["a"], caption_field="x")
    assert plain.model_dump() == {"shards": ["a"], "caption_field": "x", "metadata": []}
    with pytest.raises(ValidationError, match="at least 1 item"):
        ScoredPoolSpec(shards=["a"], caption_field=[])
