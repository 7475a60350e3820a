"""Shards made to harm: bombs, endless headers, links, members that claim what they do not hold."""

import gzip
import io
import json
import resource
import tarfile
import time
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from coreset.errors import ShardUnreadable
from coreset.schemas.part import SampleStatus
from coreset.schemas.plan import PlannedShard
from coreset_workers.data import tar
from coreset_workers.data.decode import decode
from coreset_workers.data.listing import count_samples
from coreset_workers.data.loader import BYTES_PER_CALL, _call
from coreset_workers.data.tar import RawSample, ShardReader
from coreset_workers.data.tar_stream import MAX_EXPANSION
from tests.fuzz.shards import VIEWS, mutated, read

MEGABYTE = 2**20


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return tmp_path / "000000.tar"


def peak() -> int:
    """Return the most memory this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def header(name: str, size: int = 0, **fields: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def everything(path: Path) -> tuple[list[RawSample], str | None]:
    reader = ShardReader(str(path), path.stat().st_size)
    return list(reader), reader.damage


def test_a_gzip_of_zeros_is_not_unpacked(shard: Path) -> None:
    with gzip.open(shard, "wb", compresslevel=1) as file:
        file.write(header("a.txt", 3) + b"abc".ljust(512, b"\0") + header("b.bin", 1 << 33))
        for _ in range(32):
            file.write(bytes(MEGABYTE))
    before = peak()
    samples, damage = everything(shard)
    assert [sample.key for sample in samples] == ["a"]
    assert damage == f"unpacks to more than {MAX_EXPANSION} times its size"
    assert peak() - before < 64 * MEGABYTE


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_huge_header_is_not_read_into_memory(shard: Path, kind: bytes) -> None:
    with gzip.open(shard, "wb", compresslevel=1) as file:
        file.write(header("a.txt", 3) + b"abc".ljust(512, b"\0") + header("x", 1 << 28, type=kind))
        for _ in range(256):
            file.write(bytes(MEGABYTE))
    before = peak()
    samples, damage = everything(shard)
    assert [sample.key for sample in samples] == ["a"]
    assert damage == "a header of 268,435,456 bytes"
    assert peak() - before < 64 * MEGABYTE


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_SPARSE, tarfile.DIRTYPE, tarfile.SYMTYPE, b"Z"])
def test_a_member_that_never_ends_ends(shard: Path, kind: bytes, packed: bool) -> None:
    data = header("a.txt", 3) + b"abc".ljust(512, b"\0") + header("b.bin", (1 << 88) - 1, type=kind)
    shard.write_bytes(gzip.compress(data) if packed else data)
    started = time.monotonic()
    reader = ShardReader(str(shard))  # without its size, which would tell
    assert [sample.key for sample in reader] == ["a"] or kind == tarfile.REGTYPE
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("size", [-512, -1024, -(1 << 60)])
def test_a_header_that_points_back_is_not_read_again(shard: Path, size: int) -> None:
    """CVE-2025-8194: tarfile followed a negative size back to the same header."""
    shard.write_bytes(header("a.txt", 3) + b"abc".ljust(512, b"\0") + header("b.txt", size) + bytes(1024))
    samples, damage = everything(shard)
    assert [sample.key for sample in samples] == ["a"]
    assert damage is not None
    planned = PlannedShard(index=0, uri=str(shard), size=shard.stat().st_size)
    assert count_samples(planned) is None


def test_links_devices_and_sparse_files_are_no_members(shard: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
    with tarfile.open(shard, "w") as file:
        for number, kind in enumerate(kinds):
            info = tarfile.TarInfo(f"{number}.txt")
            info.type, info.linkname = kind, str(tmp_path / "secret.txt")
            file.addfile(info)
        for name in ("/etc/k.txt", "../../up.txt", "a/../b.txt"):
            info = tarfile.TarInfo(name)
            info.size = 1
            file.addfile(info, io.BytesIO(b"1"))
    before = sorted(tmp_path.rglob("*"))
    samples, damage = everything(shard)
    assert damage is None
    # Names are keys and nothing else: nothing is unpacked.
    assert {sample.key: sample.members for sample in samples} == {
        "/etc/k": {"txt": b"1"},
        "../../up": {"txt": b"1"},
        "a/../b": {"txt": b"1"},
    }
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("size", [str(1 << 40), "1" + "0" * 4000, "-5", "x"])
def test_sparse_files_by_pax_headers_are_no_members(shard: Path, size: str) -> None:
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "k.txt", "GNU.sparse.realsize": size}
    info = tarfile.TarInfo("k.txt")
    info.size, info.pax_headers = 512, sparse
    data = info.tobuf(tarfile.PAX_FORMAT) + b"1\n0\n1\n".ljust(512, b"\0") + bytes(1024)
    shard.write_bytes(data)
    before = peak()
    with suppress(ShardUnreadable):
        assert everything(shard)[0] == []
    assert peak() - before < 64 * MEGABYTE


def test_open_samples_are_bounded_in_bytes(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MAX_OPEN_BYTES", 4 * MEGABYTE)
    with tarfile.open(shard, "w") as file:
        for number in range(16):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.size = MEGABYTE
            file.addfile(info, io.BytesIO(bytes(MEGABYTE)))
    reader = iter(ShardReader(str(shard)))
    assert next(reader).key == "0"
    assert len(list(reader)) == 15


def test_large_samples_travel_to_the_loaders_a_few_at_a_time() -> None:
    large = RawSample("s", "k", 0, {"jpg": bytes(BYTES_PER_CALL // 2)})
    source = iter([large] * 5)
    assert [len(_call(source)) for _ in range(4)] == [2, 2, 1, 0]


def decoded(**members: bytes) -> SampleStatus:
    return decode(RawSample("s", "k", 0, members, set(members)), None, VIEWS).status


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    start = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    pixels = zlib.compress(bytes((3 * width + 1) * height)) if width * height < 10**6 else zlib.compress(b"")
    body = b"".join(chunk(*one) for one in chunks)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + body + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_bombs_in_images_do_not_go_off() -> None:
    bomb = zlib.compress(bytes(256 * MEGABYTE), 1)
    before = peak()
    assert decoded(png=png(4, 4), txt=b"x") is SampleStatus.OK
    assert decoded(png=png(60_000, 60_000), txt=b"x") is SampleStatus.IMAGE_TOO_LARGE
    assert decoded(png=png(4, 4, (b"zTXt", b"k\0\0" + bomb)), txt=b"x") in (SampleStatus.BAD_IMAGE, SampleStatus.OK)
    assert decoded(png=png(4, 4, (b"iCCP", b"k\0\0" + bomb)), txt=b"x") in (SampleStatus.BAD_IMAGE, SampleStatus.OK)
    many = [(b"zTXt", b"k\0\0" + zlib.compress(bytes(MEGABYTE - 1), 9))] * 200
    assert decoded(png=png(4, 4, *many), txt=b"x") in (SampleStatus.BAD_IMAGE, SampleStatus.OK)
    assert peak() - before < 256 * MEGABYTE


def test_images_that_start_other_programs_are_refused() -> None:
    postscript = io.BytesIO()
    Image.new("RGB", (4, 4)).save(postscript, "EPS")
    assert decoded(jpg=postscript.getvalue(), txt=b"x") is SampleStatus.BAD_IMAGE


@pytest.mark.parametrize(
    "metadata",
    [
        b"[" * MEGABYTE,
        b'{"a":' * MEGABYTE,
        b"9" * 100_000,
        b'{"uid": ' + b"[0]," * 10,
        b"\xff" * 100,
        b"[0," * 6_000_000,
    ],
    ids=["deep", "deeper", "digits", "cut", "noise", "enormous"],
)
def test_json_that_is_deep_or_enormous_is_no_metadata(metadata: bytes) -> None:
    image = png(4, 4)
    started = time.monotonic()
    assert decoded(png=image, txt=b"x", json=metadata) is SampleStatus.OK
    sample = decode(RawSample("s", "k", 0, {"png": image, "json": metadata}), "caption", VIEWS)
    assert sample.status in (SampleStatus.BAD_CAPTION, SampleStatus.NO_CAPTION)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("caption", [b"x " * 20_000, b"x" * 1001, b"\xff", "é".encode() * 1001])
def test_captions_that_would_keep_a_tokenizer_busy_are_bad(caption: bytes) -> None:
    assert decoded(png=png(4, 4), txt=caption) is SampleStatus.BAD_CAPTION


def test_mutated_shards_end_well(shard: Path) -> None:
    """A small slice of `make fuzz`; other seeds than those it begins with."""
    for seed in range(10**9, 10**9 + 300):
        assert read(shard, mutated(seed)).total() > 0


def test_files_beside_a_shard_may_say_anything(tmp_path: Path) -> None:
    from coreset.spec.pool import PoolSpec
    from coreset_workers.data.listing import list_shards

    with tarfile.open(tmp_path / "0.tar", "w"):
        pass
    for content in (b"[" * MEGABYTE, b'{"successes": -1}', json.dumps({"successes": 10**400}).encode(), b"\xff"):
        (tmp_path / "0_stats.json").write_bytes(content)
        (tmp_path / "0.parquet").write_bytes(content)
        assert list_shards(PoolSpec(shards=[str(tmp_path / "0.tar")]))[0].expected is None
