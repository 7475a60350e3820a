"""Seeded mutations of real tars: what a hostile or broken pool may hold. Reading them ends well or in our own error."""

import bz2
import gzip
import io
import json
import lzma
import random
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from coreset.errors import ShardUnreadable
from coreset.schemas.part import OddityKind
from coreset_workers.data.decode import ViewFunctions, decode, note_unusable_uids
from coreset_workers.data.tar import ShardReader

BLOCK = 512
VIEWS = {
    "run": ViewFunctions(lambda image: np.asarray(image.resize((8, 8))), lambda text: np.array([len(text)], np.int64))
}
CAPTIONS = [b"a caption"] * 4 + [b"\xef\xbb\xbf", "\u200b\u2060".encode(), b"\xff", b""]
UIDS = [1e999, -1, 2**128, 2**64, True, "550e8400-e29b-41d4-a716-446655440000", "a" * 40, "0x" + "f" * 32, "\ud800"]
NAMES = ["k.jpg", "/etc/passwd.txt", "../../up.json", "a/b/../c.png", "k.JPG", "__x.txt", ".txt", "", "k", "\udcff.txt"]
NAMES += ["._k.jpg", "x/._k.jpg", "k.", "k.1.jpg", "__k.jpg", "k.__key__"]
TYPES = [*b"01234567gxLKSAVDM", 0, 255]


def image(kind: str, random_: random.Random) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (random_.randint(1, 24), random_.randint(1, 24)), (9, 99, 200)).save(buffer, kind)
    return buffer.getvalue()


def real_tar(random_: random.Random) -> bytes:
    """Return a small shard of the kinds of members that pools have, and of links."""
    buffer = io.BytesIO()
    kind = random_.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as tar:
        for number in range(random_.randint(1, 4)):
            for ext, data in _sample(random_).items():
                header = tarfile.TarInfo(f"{'d' * random_.choice([0, 0, 90])}/{number:06d}.{ext}")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
            if random_.random() < 0.2:
                link = tarfile.TarInfo(random_.choice(["x.txt", "000000.txt"]))
                link.type, link.linkname = random_.choice([tarfile.SYMTYPE, tarfile.LNKTYPE]), "/etc/passwd"
                tar.addfile(link)
    return buffer.getvalue()


def _sample(random_: random.Random) -> dict[str, bytes]:
    kind = random_.choice(["JPEG", "PNG", "WEBP"])
    uid = f"{random_.getrandbits(128):032x}"
    given = random_.choice([uid] * 3 + UIDS)
    metadata = random_.choice([b"{}", b"[" * 5000, json.dumps({"uid": given, "c": "x"}).encode()])
    caption = random_.choice(CAPTIONS)
    return {"jpg" if kind == "JPEG" else kind.lower(): image(kind, random_), "txt": caption, "json": metadata}


def _flip(data: bytearray, random_: random.Random) -> None:
    for _ in range(random_.choice([1, 1, 4, 32])):
        data[random_.randrange(len(data))] = random_.choice([0, 255, random_.randrange(256)])


def _cut(data: bytearray, random_: random.Random) -> None:
    del data[random_.randrange(len(data)) :]


def _move(data: bytearray, random_: random.Random) -> None:
    start, end = sorted(random_.randrange(len(data)) for _ in range(2))
    piece = data[start:end][:4096]
    place = random_.randrange(len(data))
    data[place:place] = piece


def _header(data: bytearray, random_: random.Random) -> None:
    """Change a field of a header, and make its checksum right again, so that the reader believes it."""
    starts = [at for at in range(0, len(data) - BLOCK, BLOCK) if data[at + 257 : at + 262] == b"ustar"]
    if not starts:
        return
    at = random_.choice(starts)
    field, size, values = random_.choice(_FIELDS)
    value = random_.choice(values) if values else random_.randbytes(size)
    data[at + field : at + field + size] = value[:size].ljust(size, b"\0")
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + BLOCK])


_FIELDS: list[tuple[int, int, list[bytes]]] = [
    (0, 100, [name.encode(errors="surrogateescape") for name in NAMES]),
    (124, 12, [b"77777777777", b"00000000000", b"-1", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"00000001000", b"x"]),
    (156, 1, [bytes([kind]) for kind in TYPES]),
    (157, 100, [b"/etc/passwd", b"../x"]),
    (345, 155, []),
    (386, 96, []),  # where GNU's sparse map lies
    (482, 13, [b"\x0177777777777", b"\x0100000000000"]),
]
MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [_flip, _cut, _move, _header, _header, _header]
PACKED: list[Callable[[bytes], bytes]] = [
    lambda data: gzip.compress(data, 1),
    lambda data: bz2.compress(data, 1),
    lambda data: lzma.compress(data, preset=0),
]


def mutated(seed: int) -> bytes:
    """Return the shard of a seed."""
    random_ = random.Random(seed)
    data = bytearray(real_tar(random_))
    if random_.random() < 0.1:
        data += real_tar(random_)
    packed = random_.random() < 0.2
    if packed and random_.random() < 0.5:
        data = bytearray(random_.choice(PACKED)(bytes(data)))
        packed = False
    for _ in range(random_.choice([1, 1, 2, 5])):
        if data:
            random_.choice(MUTATIONS)(data, random_)
    made = random_.choice(PACKED)(bytes(data)) if packed else bytes(data)
    return made + random_.choice(PACKED)(real_tar(random_)) if packed and random_.random() < 0.2 else made


def read(path: Path, data: bytes) -> Counter[str]:
    """Read and decode a shard as a worker does, and count what came of it. Nothing but our own error may be raised."""
    path.write_bytes(data)
    reader = ShardReader(str(path), len(data))
    found: Counter[str] = Counter()
    keys: set[str] = set()
    try:
        for raw in reader:
            sample = decode(raw, None, VIEWS, ("c",), thumbnails=True)
            note_unusable_uids(reader.oddities, str(path), [sample])
            found[sample.status.value] += 1
            assert len(sample.uid) == 32
            assert raw.key not in keys, "a key is reported twice"
            keys.add(raw.key)
    except ShardUnreadable:
        return Counter(unreadable=1)
    found["damaged" if reader.damage else "whole"] += 1
    assert len(reader.oddities.warnings()) == len(reader.oddities.as_dict()) <= len(OddityKind)
    return found
