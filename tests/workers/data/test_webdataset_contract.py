"""The same odd shards by our reader and by webdataset's: each difference is a case that webdataset's does not cover.

docs/architecture.md names the cases. If one of them starts to pass in webdataset, our own code for it can go.
"""

import gzip
import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from webdataset.shardlists import expand_urls
from webdataset.tariterators import group_by_keys, tar_file_expander
from webdataset.writer import TarWriter

from coreset.spec import shard_uris
from coreset_workers.data import tar
from coreset_workers.data.tar import ShardReader
from tests.field.pools import sample, tar_bytes

Samples = dict[str, dict[str, bytes]]
THREE = [*sample("a", 1), *sample("b", 2), *sample("c", 3)]


def by_ours(path: Path) -> tuple[Samples, str | None]:
    """Return the samples and what is said to be wrong."""
    reader = ShardReader(str(path), path.stat().st_size)
    found = {one.key: one.members for one in reader}
    kinds = reader.oddities.as_dict()
    return found, reader.damage or ", ".join(kinds) or None


def by_webdataset(path: Path) -> tuple[Samples, str | None]:
    found: Samples = {}
    with path.open("rb") as stream:
        try:
            for one in group_by_keys(tar_file_expander([{"url": str(path), "stream": stream}])):
                members = {name: data for name, data in one.items() if not name.startswith("__")}
                found[one["__key__"]] = members
        except Exception as error:
            return found, type(error).__name__
    return found, None


def keys(samples: Samples) -> str:
    return " ".join(samples)


def linked() -> bytes:
    buffer = io.BytesIO(tar_bytes(THREE))
    with tarfile.open(fileobj=buffer, mode="a") as file:
        link = tarfile.TarInfo("d.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    return buffer.getvalue()


def noise_in_header() -> bytes:
    data = bytearray(tar_bytes(THREE))
    start = data.index(b"c.jpg")
    data[start : start + 512] = random.Random(0).randbytes(512)
    return bytes(data)


def cut_in_header() -> bytes:
    data = tar_bytes(THREE)
    return data[: data.index(b"c.jpg") + 100]


Outcome = tuple[str, str | None]
CASES: dict[str, tuple[Callable[[], bytes], Outcome, Outcome]] = {
    "plain": (lambda: tar_bytes(THREE), ("a b c", None), ("a b c", None)),
    "gzip": (lambda: gzip.compress(tar_bytes(THREE)), ("a b c", None), ("a b c", None)),
    "a folder": (lambda: tar_bytes([("x.1/a.jpg", b"1"), ("./b.jpg", b"2")]), ("x.1/a ./b", None), ("x.1/a ./b", None)),
    "reserved names": (lambda: tar_bytes([*THREE, ("__m__/d.jpg", b"")]), ("a b c", "ignored_member"), ("a b c", None)),
    "dots in keys": (lambda: tar_bytes(sample("a.1", 1)), ("a", "dotted_key"), ("a", None)),
    # From here on webdataset's reader loses samples or says nothing.
    "concatenated": (lambda: tar_bytes(THREE[:3]) + tar_bytes(THREE[3:]), ("a b c", None), ("a", None)),
    "packed in pieces": (
        lambda: gzip.compress(tar_bytes(THREE[:3])) + gzip.compress(tar_bytes(THREE[3:])),
        ("a b c", None),
        ("a", None),
    ),
    "cut off in a header": (cut_in_header, ("a b", "cut off"), ("a b", None)),
    "noise in a header": (noise_in_header, ("a b", "cut off"), ("a b", None)),
    "apart": (lambda: tar_bytes([THREE[0], THREE[3], THREE[1]]), ("a b", None), ("a b", None)),
    "a suffix again": (lambda: tar_bytes([("a.txt", b"1"), ("a.txt", b"2")]), ("a a#2", None), ("", "ValueError")),
    "a link": (linked, ("a b c", "ignored_member"), ("a b c", None)),
    "macos": (lambda: tar_bytes([("x/._a.jpg", b"x"), *THREE]), ("a b c", "ignored_member"), ("x/ a b c", None)),
    "no tar": (lambda: b"no tar" * 200, ("", "ShardUnreadable"), ("", "ReadError")),
}


@pytest.mark.parametrize("case", CASES)
def test_both_readers_on_one_shard(case: str, tmp_path: Path) -> None:
    make, ours, theirs = CASES[case]
    (path := tmp_path / "0.tar").write_bytes(make())
    try:
        samples, said = by_ours(path)
    except Exception as error:
        samples, said = {}, type(error).__name__
    assert keys(samples) == ours[0]
    assert (said or "").startswith(ours[1] or "")
    assert bool(said) is bool(ours[1])
    others, their_word = by_webdataset(path)
    assert (keys(others), their_word) == theirs


def test_on_ordinary_shards_both_give_the_same_bytes(tmp_path: Path) -> None:
    (path := tmp_path / "0.tar").write_bytes(tar_bytes(THREE))
    assert by_ours(path) == by_webdataset(path)


def test_a_member_apart_from_its_sample_overwrites_it_in_webdataset(tmp_path: Path) -> None:
    (path := tmp_path / "0.tar").write_bytes(tar_bytes([THREE[0], THREE[3], THREE[1]]))
    assert by_ours(path)[0]["a"].keys() == {"jpg", "txt"}
    assert by_webdataset(path)[0]["a"].keys() == {"txt"}


def test_a_large_member_is_read_whole_by_webdataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MAX_MEMBER_BYTES", 1000)
    (path := tmp_path / "0.tar").write_bytes(tar_bytes([("a.jpg", bytes(1001)), ("a.npy", bytes(5000))]))
    assert by_ours(path)[0] == {"a": {}}
    assert {ext: len(data) for ext, data in by_webdataset(path)[0]["a"].items()} == {"jpg": 1001, "npy": 5000}


@pytest.mark.parametrize("pattern", ["p/{000..003}.tar", "a.tar::b/{0..1}.tar", "s3://b/{x,y}/{0..1}.tar"])
def test_shards_are_expanded_as_webdataset_does(pattern: str) -> None:
    assert list(shard_uris.expand_uris([pattern])) == expand_urls(pattern)


def test_its_writer_is_read_back_by_both(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    with path.open("wb") as file, TarWriter(file, encoder=False, mtime=0) as writer:
        writer.write({"__key__": "a", "jpg": b"J", "seg.png": b"S", "json": b"{}"})
    ours = {one.key: one.members for one in ShardReader(str(path), everything=True)}
    assert ours == by_webdataset(path)[0] == {"a": {"jpg": b"J", "seg.png": b"S", "json": b"{}"}}
