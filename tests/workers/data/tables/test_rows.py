"""Pools that are no tars: the same samples, with the same uids, keys and faults, from every format."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coreset.errors import ShardUnreadable
from coreset.schemas.part import OddityKind, SampleStatus, UidSource
from coreset.schemas.plan import PlannedShard
from coreset.spec.pool import PoolSpec
from coreset_workers.data.decode import Sample
from coreset_workers.data.listing import list_shards
from coreset_workers.data.shards import open_shard
from coreset_workers.data.tables import slices
from coreset_workers.data.tar import RawSample
from demo.plan import Defect, defect_counts
from demo.pool import write_pool
from tests.field.pools import jpeg, loader
from tests.workers.data.pool_formats import (
    WRITERS,
    Row,
    rows_of,
    with_files,
    write_arrow,
    write_csv,
    write_jsonl,
    write_parquet,
    write_paths,
)

SAMPLES = 60
COPIES = [{"key": f"{i:03}", "jpg": jpeg(i), "txt": f"caption {i}"} for i in range(50)]


@pytest.fixture(scope="module")
def tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pool(tmp_path_factory.mktemp("tar"), SAMPLES, shards=1)[0]


@pytest.fixture(scope="module")
def of_the_tar(tar: Path) -> list[Sample]:
    return decoded(listed(tar))


def listed(*paths: Path | str, **fields: Any) -> list[PlannedShard]:
    return list_shards(PoolSpec(shards=[str(path) for path in paths], **fields))


def raw(shards: list[PlannedShard]) -> list[RawSample]:
    return [sample for shard in shards for sample in open_shard(shard)]


def decoded(shards: list[PlannedShard]) -> list[Sample]:
    return list(loader().decode(raw(shards)))


def without_arrays(samples: list[Sample]) -> list[Sample]:
    return [replace(sample, images={}, tokens={}) for sample in samples]


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_has_the_samples_of_the_tar(
    kind: str, tar: Path, of_the_tar: list[Sample], tmp_path: Path
) -> None:
    shards = listed(WRITERS[kind](rows_of(tar), tmp_path))
    assert [(shard.expected, shard.expected_source) for shard in shards] == [(SAMPLES, "rows")]
    found = decoded(shards)
    assert without_arrays(found) == without_arrays(of_the_tar)
    statuses = Counter(sample.status for sample in found)
    counts = defect_counts(SAMPLES)
    assert statuses[SampleStatus.NO_IMAGE] == counts[Defect.IMAGELESS]
    assert statuses[SampleStatus.BAD_IMAGE] == counts[Defect.BROKEN]
    for one, other in zip(found, of_the_tar, strict=True):
        assert {name: view.tobytes() for name, view in one.images.items()} == {
            name: view.tobytes() for name, view in other.images.items()
        }


def test_uids_come_of_the_content_where_rows_give_none(tmp_path: Path) -> None:
    from_bytes = decoded(listed(write_parquet(COPIES, tmp_path)))
    assert {sample.uid_source for sample in from_bytes} == {UidSource.CONTENT}
    assert [s.uid for s in decoded(listed(write_csv(COPIES, tmp_path)))] == [s.uid for s in from_bytes]


def test_a_large_file_is_cut_into_shards_that_have_its_rows_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "ROWS_PER_SHARD", 20)
    files = [
        write_parquet(COPIES, tmp_path, "groups", row_group_size=8),
        write_paths(COPIES, tmp_path, "paths"),
        write_csv(COPIES, tmp_path, "csv"),
        write_jsonl(COPIES, tmp_path, "jsonl"),
    ]
    expected = {"groups": [24, 24, 2], "paths": [20, 20, 10], "csv": [20, 20, 10], "jsonl": [20, 20, 10]}
    for file in files:
        shards = listed(file)
        assert [shard.expected for shard in shards] == expected[file.stem]
        assert [len(raw([shard])) for shard in shards] == expected[file.stem]
        assert [sample.key.rsplit("/", 1)[-1] for sample in raw(shards)] == [row["key"] for row in COPIES]
        assert len({shard.name for shard in shards}) == 3
        assert sum(shard.size for shard in shards) <= file.stat().st_size
        assert {shard.draw_name for shard in shards} == {f"{file.stem}.tar"}
        assert PlannedShard.model_validate_json(shards[1].model_dump_json()) == shards[1]


def test_keys_come_of_a_column_the_path_or_the_number(tmp_path: Path) -> None:
    bare = [{name: row[name] for name in ("jpg", "txt")} for row in COPIES[:3]]
    assert [s.key for s in raw(listed(write_parquet(bare, tmp_path)))] == ["000000000", "000000001", "000000002"]
    named = [{"key": 7, **row} for row in bare[:2]]
    assert [s.key for s in raw(listed(write_parquet(named, tmp_path)))] == ["7", "7#2"]
    (tmp_path / "p.csv").write_text("filepath\ttitle\na/b.jpg\tone\na/b.jpg\ttwo\n")
    assert [s.key for s in raw(listed(tmp_path / "p.csv"))] == ["a/b", "a/b#2"]


def test_the_other_columns_are_metadata_and_kept_in_written_shards(tmp_path: Path) -> None:
    rows: list[Row] = [{**COPIES[0], "score": 0.5, "bad": float("nan"), "blob": b"x", "nsfw": True, "lang": "en"}]
    (sample,) = raw(listed(write_parquet(rows, tmp_path)))
    assert json.loads(sample.members["json"]) == {
        "key": "000",
        "txt": "caption 0",
        "score": 0.5,
        "bad": None,
        "nsfw": True,
        "lang": "en",
    }
    assert sorted(sample.members) == ["jpg", "json", "txt"]


def test_columns_can_be_named(tmp_path: Path) -> None:
    rows = [{"a": row["jpg"], "b": jpeg(99), "c": row["txt"], "txt": "another"} for row in COPIES[:3]]
    path = write_parquet(rows, tmp_path)
    found = decoded(listed(path, image_field="a", caption_field="c"))
    assert [sample.caption for sample in found] == ["caption 0", "caption 1", "caption 2"]
    assert [s.uid for s in found] == [s.uid for s in decoded(listed(write_csv(COPIES[:3], tmp_path)))]


@pytest.mark.parametrize(
    ("columns", "fields", "words"),
    [
        ({"URL": "http://x/y.jpg", "TEXT": "a"}, {}, "It has URL, TEXT. It has URLs but no images: .* img2dataset"),
        ({"jpg": b"1", "words": "a"}, {}, "no column with captions of a usual name .*name it in `caption_field`"),
        (
            {"jpg": b"1", "txt": "a"},
            {"caption_field": "nope"},
            "no column nope, .*`caption_field` names; .* jpg, txt",
        ),
        ({"jpg": b"1", "txt": "a"}, {"image_field": "n", "caption_field": "jpg"}, "no column n, which `image_field`"),
        ({"jpg": b"1", "txt": "a"}, {"caption_field": "jpg"}, "has values of another kind; expected text or texts"),
    ],
)
def test_columns_that_do_not_exist_are_named_with_those_that_do(
    columns: Row, fields: dict[str, str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ShardUnreadable, match=words):
        listed(write_parquet([columns], tmp_path), **fields)


def test_a_folder_stands_for_its_files(tmp_path: Path) -> None:
    for stem in ("data-00000-of-00002", "data-00001-of-00002", "cache-1234"):
        write_arrow(COPIES[:3], tmp_path, stem)
    (tmp_path / "state.json").write_text("{}")
    assert [Path(shard.uri).stem for shard in listed(tmp_path)] == ["data-00000-of-00002", "data-00001-of-00002"]
    folder = tmp_path / "images"
    folder.mkdir()
    write_csv(COPIES[:3], folder, "metadata")
    assert [shard.uri for shard in listed(folder)] == [str(folder / "metadata.csv")]


def test_a_folder_of_splits_and_an_empty_one_say_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(ShardUnreadable, match=r"expected one of \*\.tar, .*metadata\.csv in it"):
        listed(tmp_path)
    (tmp_path / "dataset_dict.json").write_text("{}")
    with pytest.raises(ShardUnreadable, match="several splits; name one of them: train"):
        listed(tmp_path)


def test_rows_of_a_csv_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    with_files(COPIES[:2], tmp_path)
    lines = ["﻿file_name,text", "images/000.jpg,a dog, running", 'images/001.jpg,"a dog,\nrunning"', "images/000.jpg"]
    (tmp_path / "p.csv").write_text("\n".join(lines))
    (shard,) = listed(tmp_path / "p.csv")
    reader = open_shard(shard)
    found = list(loader().decode(reader))
    assert [(s.key, s.status.value, s.caption) for s in found] == [
        ("row-0", "no_image", None),
        ("images/001", "ok", "a dog,\nrunning"),
        ("images/000", "no_caption", None),
    ]
    assert reader.oddities.as_dict()[OddityKind.UNREADABLE_ROW].count == 1
    assert "quote values with commas" in reader.oddities.warnings()[0]


def test_lines_of_a_jsonl_that_are_no_objects_are_counted(tmp_path: Path) -> None:
    path = write_jsonl(COPIES[:2], tmp_path)
    path.write_text(path.read_text() + '[1]\n\n{"file_name": "images/000.jpg", "text": "\\ud800"}\n{"file_n')
    (shard,) = listed(path)
    assert shard.expected == 5
    reader = open_shard(shard)
    statuses = [sample.status.value for sample in loader().decode(reader)]
    assert statuses == ["ok", "ok", "no_image", "bad_caption", "no_image"]
    assert reader.oddities.as_dict()[OddityKind.UNREADABLE_ROW].count == 2


def test_a_csv_keeps_the_bytes_of_a_caption_that_is_no_utf8(tmp_path: Path) -> None:
    with_files(COPIES[:1], tmp_path)
    (tmp_path / "p.csv").write_bytes(b"file_name,text\nimages/000.jpg,caf\xe9\n")
    (sample,) = raw(listed(tmp_path / "p.csv"))
    assert sample.members["txt"] == b"caf\xe9"
    assert next(loader().decode([sample])).status == SampleStatus.BAD_CAPTION


def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.arrow"):
        (tmp_path / name).write_bytes(b"hello " * 100)
        with pytest.raises(ShardUnreadable, match=f"{name}: damaged or of another format"):
            listed(tmp_path / name)
    (tmp_path / "a.csv").write_text("text,text\n1,2\n")
    with pytest.raises(ShardUnreadable, match="two columns of one name"):
        listed(tmp_path / "a.csv")


def test_captions_of_a_category_type_and_large_types_are_text(tmp_path: Path) -> None:
    table = pa.table(
        {
            "image": pa.array([COPIES[0]["jpg"]], pa.large_binary()),
            "text": pa.array(["a cat"]).dictionary_encode(),
            "license": pa.array(["x"], pa.large_string()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    (sample,) = raw(listed(tmp_path / "a.parquet"))
    assert (sample.members["txt"], json.loads(sample.members["json"])["license"]) == (b"a cat", "x")
