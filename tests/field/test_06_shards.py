"""Odd shards: what was read without a word in part is read whole, or counted with an example."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from coreset.cli.spec_files import read_spec
from coreset.errors import InvalidSpec
from coreset.schemas.plan import PlannedShard
from coreset_workers.data.listing import count_samples
from tests.field.pools import read, sample, tar_bytes, write_tar


def two_tars() -> tuple[bytes, bytes]:
    first, second = ([m for i in range(4) for m in sample(f"{i + start}", i + start)] for start in (0, 4))
    return tar_bytes(first), tar_bytes(second)


def test_concatenated_tars_are_read_to_their_end(tmp_path: Path) -> None:
    (path := tmp_path / "0.tar").write_bytes(b"".join(two_tars()))
    found, reader = read(path)
    assert [one.key for one in found] == list("01234567")
    assert reader.damage is None
    assert count_samples(PlannedShard(index=0, uri=str(path), size=path.stat().st_size)) == 8


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_tars_one_after_another_are_read_to_their_end(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (path := tmp_path / "0.tar.gz").write_bytes(b"".join(map(pack, two_tars())))
    found, reader = read(path)
    assert [one.key for one in found] == list("01234567")
    assert reader.damage is None


def test_what_follows_the_end_mark_and_is_no_tar_is_damage(tmp_path: Path) -> None:
    (path := tmp_path / "0.tar").write_bytes(two_tars()[0] + b"rest" * 128)
    found, reader = read(path)
    assert len(found) == 4
    assert reader.damage is not None


@pytest.mark.parametrize("caption", ["\ufeff", "\u200b\u200d", " \u2060\n", "\xad", "\u00a0"])
def test_a_caption_without_a_visible_character_is_empty(tmp_path: Path, caption: str) -> None:
    (one,), _ = read(write_tar(tmp_path / "0.tar", sample("a", 1, caption.encode())))
    assert (one.status, one.caption) == ("empty_caption", None)


def test_members_that_macos_adds_are_counted_and_make_no_sample(tmp_path: Path) -> None:
    added = [("._0.jpg", b"x"), ("./._0.txt", b"x"), ("__MACOSX/._0.jpg", b"x"), (".DS_Store", b"x")]
    path = write_tar(tmp_path / "0.tar", [*added, *sample("0", 1)])
    found, reader = read(path)
    assert [(one.key, one.status) for one in found] == [("0", "ok")]
    oddity = reader.oddities.as_dict()["ignored_member"]
    assert (oddity.count, oddity.example) == (4, f"{path}: ._0.jpg")


def test_a_doubled_key_of_a_job_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    (job := tmp_path / "job.json").write_text('{"select": {"k": 1, "k": 2}}')
    with pytest.raises(InvalidSpec, match=r"job\.json: the key 'k' is given twice in one object"):
        read_spec(str(job))
