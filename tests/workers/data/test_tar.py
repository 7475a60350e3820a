"""Reading shards: what lies in the tar comes out sample by sample, and what is wrong with the tar is said."""

import gzip
import io
import random
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coreset.errors import ShardUnreadable
from coreset.schemas.part import Oddity
from coreset_workers.data import tar
from coreset_workers.data.tar import RawSample, ShardReader, sample_member

BLOCK = 512

Member = tuple[str, bytes]


def tar_bytes(*members: Member) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            file.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def bytes_of(*contents: bytes) -> int:
    """Bytes that members with these contents take in a tar, before its end mark."""
    return sum(BLOCK + -(-len(content) // BLOCK) * BLOCK for content in contents)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return tmp_path / "000000.tar"


def read(path: Path, size: int | None = None, everything: bool = False) -> tuple[list[RawSample], str | None]:
    reader = ShardReader(str(path), size, everything)
    return list(reader), reader.damage


def members_by_key(samples: list[RawSample]) -> dict[str, dict[str, bytes]]:
    assert len({sample.key for sample in samples}) == len(samples)
    return {sample.key: sample.members for sample in samples}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("000.jpg", ("000", "jpg")),
        ("000.seg.PNG", ("000", "seg.png")),
        ("a.b/c.d/000.txt", ("a.b/c.d/000", "txt")),
        ("./000.jpg", ("./000", "jpg")),
        ("__a.jpg", ("__a", "jpg")),
        *((name, None) for name in ("README", ".hidden", "._000.jpg", "x/._000.jpg", "000.", "000.__x", "__a__.txt")),
        *((name, None) for name in ("x/__a__.txt", "__a__/000.jpg")),
    ],
)
def test_a_name_is_split_at_the_first_dot_of_its_base_name(name: str, parts: tuple[str, str] | None) -> None:
    assert sample_member(tarfile.TarInfo(name)) == parts


def test_members_of_a_key_make_one_sample_also_when_they_are_not_adjacent(shard: Path) -> None:
    shard.write_bytes(tar_bytes(("a.jpg", b"A"), ("b.jpg", b"B"), ("b.txt", b"of b"), ("a.txt", b"of a")))
    samples, damage = read(shard)
    assert members_by_key(samples) == {"a": {"jpg": b"A", "txt": b"of a"}, "b": {"jpg": b"B", "txt": b"of b"}}
    assert [(sample.row, sample.shard) for sample in samples] == [(0, str(shard)), (1, str(shard))]
    assert damage is None


def test_a_suffix_that_comes_again_starts_a_sample_with_a_key_of_its_own(shard: Path) -> None:
    shard.write_bytes(tar_bytes(("a.txt", b"1"), ("a.txt", b"2"), ("a.jpg", b"J"), ("a.txt", b"3")))
    samples, _ = read(shard)
    assert members_by_key(samples) == {"a": {"txt": b"1"}, "a#2": {"txt": b"2", "jpg": b"J"}, "a#3": {"txt": b"3"}}


def test_a_key_that_is_written_like_a_repeated_one_is_told_apart_from_it(shard: Path) -> None:
    shard.write_bytes(tar_bytes(("a.txt", b"1"), ("a.txt", b"2"), ("a#2.txt", b"3"), ("a#2.jpg", b"J")))
    samples, _ = read(shard)
    assert members_by_key(samples) == {"a": {"txt": b"1"}, "a#2": {"txt": b"2"}, "a#2#2": {"txt": b"3", "jpg": b"J"}}


def test_equal_names_in_different_directories_are_different_samples(shard: Path) -> None:
    shard.write_bytes(tar_bytes(("x.1/a.txt", b"1"), ("y/a.txt", b"2"), ("a.txt", b"3")))
    samples, _ = read(shard)
    assert members_by_key(samples) == {"x.1/a": {"txt": b"1"}, "y/a": {"txt": b"2"}, "a": {"txt": b"3"}}


@pytest.mark.parametrize("key", ["a", "a#b"])
def test_members_further_apart_than_the_look_back_are_two_samples(
    shard: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar, "LOOK_BACK", 2)
    between = [(f"{i}.txt", b"") for i in range(3)]
    shard.write_bytes(tar_bytes((f"{key}.jpg", b"J"), *between, (f"{key}.txt", b"late")))
    found = members_by_key(read(shard)[0])
    assert (found[key], found[f"{key}#2"]) == ({"jpg": b"J"}, {"txt": b"late"})


def test_unknown_extensions_are_seen_but_held_only_when_everything_is_wanted(shard: Path) -> None:
    shard.write_bytes(tar_bytes(("a.npy", b"N"), ("a.cls", b"7"), ("a.TXT", b"T")))
    (sample,), _ = read(shard)
    assert sample.members == {"txt": b"T"}
    assert sample.seen == {"npy", "cls", "txt"}
    assert sample.image() is None
    (sample,), _ = read(shard, everything=True)
    assert sample.members == {"npy": b"N", "cls": b"7", "txt": b"T"}


def test_the_image_is_the_first_known_kind_in_a_fixed_order(shard: Path) -> None:
    shard.write_bytes(tar_bytes(("a.webp", b"W"), ("a.png", b"P"), ("b.webp", b"W"), ("b.gif", b"G")))
    samples, _ = read(shard)
    assert [sample.image() for sample in samples] == [b"P", b"W"]


def test_directories_and_names_that_webdataset_reserves_are_no_samples(shard: Path) -> None:
    with tarfile.open(shard, "w") as file:
        directory = tarfile.TarInfo("x")
        directory.type = tarfile.DIRTYPE
        file.addfile(directory)
        link = tarfile.TarInfo("x/link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
        file.addfile(tarfile.TarInfo("x/__meta__.json"))
    reader = ShardReader(str(shard))
    assert (list(reader), reader.damage) == ([], None)
    assert reader.oddities.as_dict() == {"ignored_member": Oddity(count=2, example=f"{shard}: x/link.txt")}


def test_a_member_larger_than_the_limit_is_taken_for_missing(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MAX_MEMBER_BYTES", 10)
    shard.write_bytes(tar_bytes(("a.jpg", bytes(11)), ("a.txt", bytes(10))))
    (sample,), damage = read(shard)
    assert sample.members == {"txt": bytes(10)}
    assert damage is None


def test_a_name_that_is_not_utf8_gives_a_key_that_can_be_written(shard: Path) -> None:
    content = tar_bytes(("aXb.txt", b"T"), ("aYb.txt", b"U"))
    shard.write_bytes(_renamed(_renamed(content, b"aXb.txt", b"a\xffb.txt"), b"aYb.txt", b"a\xfeb.txt"))
    samples, damage = read(shard)
    assert [sample.members for sample in samples] == [{"txt": b"T"}, {"txt": b"U"}]
    assert len({sample.key.encode() for sample in samples}) == 2
    assert damage is None


def _renamed(content: bytes, old: bytes, new: bytes) -> bytes:
    """The tar with a member's name replaced by one of the same length, and its header's checksum mended."""
    start = content.index(old)
    header = bytearray(content[start : start + BLOCK].replace(old, new))
    header[148:156] = b"        "
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return content[:start] + bytes(header) + content[start + BLOCK :]


CONTENTS = (b"first", b"x" * 700, b"third")
MEMBERS = tuple(zip(("a.txt", "b.txt", "c.txt"), CONTENTS, strict=True))


@pytest.mark.parametrize(
    ("cut", "whole"),
    [
        (bytes_of(*CONTENTS[:1]) + 100, 1),  # in the header of b
        (bytes_of(*CONTENTS[:1]) + BLOCK + 100, 1),  # in the content of b
        (bytes_of(*CONTENTS[:2]) + BLOCK, 2),  # before the content of c
    ],
)
@pytest.mark.parametrize("everything", [False, True])
def test_the_samples_before_a_cut_are_delivered_and_the_cut_is_told(
    shard: Path, cut: int, whole: int, everything: bool
) -> None:
    shard.write_bytes(tar_bytes(*MEMBERS)[:cut])
    samples, damage = read(shard, everything=everything)
    assert [sample.members["txt"] for sample in samples] == list(CONTENTS[:whole])
    assert damage is not None
    assert MEMBERS[whole - 1][0] in damage or MEMBERS[whole][0] in damage


def test_a_cut_in_a_member_that_nobody_reads_is_told(shard: Path) -> None:
    shard.write_bytes(tar_bytes(("a.txt", b"T"), ("a.npy", bytes(5000)))[: 3 * BLOCK + 1000])
    samples, damage = read(shard)
    assert members_by_key(samples) == {"a": {"txt": b"T"}}
    assert damage is not None


def test_a_cut_between_two_members_is_noticed_by_the_size(shard: Path) -> None:
    content = tar_bytes(*MEMBERS)
    shard.write_bytes(content[: bytes_of(*CONTENTS[:2])])
    assert read(shard)[1] is None
    samples, damage = read(shard, size=len(content))
    assert len(samples) == 2
    assert damage == f"2560 bytes came of {len(content)}: the shard has changed"


def test_a_header_overwritten_by_noise_is_told(shard: Path) -> None:
    content, start = tar_bytes(*MEMBERS), bytes_of(*CONTENTS[:2])
    shard.write_bytes(content[:start] + random.Random(0).randbytes(BLOCK) + content[start + BLOCK :])
    samples, damage = read(shard, size=len(content))
    assert len(samples) == 2
    assert damage is not None
    assert "b.txt" in damage


@pytest.mark.parametrize("surplus", [-1, 1])
def test_another_size_than_planned_is_damage(shard: Path, surplus: int) -> None:
    content = tar_bytes(*MEMBERS)
    shard.write_bytes(content)
    assert read(shard, size=len(content)) == (read(shard)[0], None)
    samples, damage = read(shard, size=len(content) + surplus)
    assert len(samples) == 3
    assert damage is not None
    assert f"{len(content)} bytes came of {len(content) + surplus}" in damage


@pytest.mark.parametrize(
    "content", [b"", b"no tar", bytes(range(256)) * 8, b"\x1f\x8b garbage", gzip.compress(b"no", mtime=0)]
)
def test_what_is_no_tar_is_refused_by_name(shard: Path, content: bytes) -> None:
    shard.write_bytes(content)
    with pytest.raises(ShardUnreadable, match=r"000000\.tar is not a tar file"):
        read(shard)


def test_a_shard_that_is_not_there_is_refused_by_name(shard: Path) -> None:
    with pytest.raises(ShardUnreadable, match=r"000000\.tar cannot be opened: FileNotFoundError") as caught:
        read(shard)
    assert caught.value.data == {"uri": str(shard)}


def test_an_empty_tar_has_no_samples_and_no_damage(shard: Path) -> None:
    shard.write_bytes(tar_bytes())
    assert read(shard, size=shard.stat().st_size) == ([], None)


def test_a_gzipped_tar_is_read_whatever_its_name(shard: Path) -> None:
    shard.write_bytes(gzip.compress(tar_bytes(*MEMBERS)))
    samples, damage = read(shard, size=shard.stat().st_size)
    assert [sample.members["txt"] for sample in samples] == list(CONTENTS)
    assert damage is None


def test_a_cut_gzipped_tar_is_damaged(shard: Path) -> None:
    noise = random.Random(0).randbytes(50_000)
    shard.write_bytes(gzip.compress(tar_bytes(("a.txt", b"T"), ("b.txt", noise)))[:30_000])
    samples, damage = read(shard)
    assert members_by_key(samples) == {"a": {"txt": b"T"}}
    assert damage is not None


keys = st.text(st.characters(exclude_characters="./#\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda key: not key.startswith("__")
)
contents = st.dictionaries(st.sampled_from(["jpg", "txt", "json", "webp"]), st.binary(max_size=600), min_size=1)


@given(st.dictionaries(keys, contents, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_samples_are_read_back_as_they_were_written(
    samples: dict[str, dict[str, bytes]], shuffler: random.Random
) -> None:
    members = [(f"{key}.{ext}", data) for key, by_ext in samples.items() for ext, data in by_ext.items()]
    shuffler.shuffle(members)
    with tempfile.TemporaryDirectory() as directory:
        shard = Path(directory) / "0.tar"
        shard.write_bytes(tar_bytes(*members))
        found, damage = read(shard, size=shard.stat().st_size)
    assert members_by_key(found) == samples
    assert [sample.key for sample in found] == list(dict.fromkeys(name.rpartition(".")[0] for name, _ in members))
    assert [sample.row for sample in found] == list(range(len(samples)))
    assert damage is None
