"""Shards to measure on: those that are given, drawn ones, and web-sized images tiled from either."""

import io
import tarfile
from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path

from PIL import Image

from coreset.schemas.plan import PlannedShard
from coreset_workers.data.listing import expand
from coreset_workers.data.tar import RawSample, ShardReader
from demo.pool import write_sound_shard

WEB_SIZE, TILE, QUALITY = (640, 480), 160, 90


def raw_samples(shards: list[str] | None, count: int, folder: Path) -> list[RawSample]:
    """Return the first samples of the shards that have an image and a text; without shards they are drawn."""
    if not shards:
        write_sound_shard(folder / "drawn.tar", count, seed=0)
    found = chain.from_iterable(ShardReader(uri) for uri in expand(shards or [str(folder / "drawn.tar")]))
    return list(islice((raw for raw in found if raw.image() and "txt" in raw.members), count))


def web_sized(samples: Sequence[RawSample]) -> list[RawSample]:
    """Return as many samples with images of 640x480, quality 90, each tiled from twelve images, and the captions."""
    pictures = [Image.open(io.BytesIO(raw.image() or b"")).convert("RGB").resize((TILE, TILE)) for raw in samples]
    return [_tiled(raw, pictures, 12 * i) for i, raw in enumerate(samples)]


def _tiled(raw: RawSample, pictures: list[Image.Image], first: int) -> RawSample:
    whole = Image.new("RGB", WEB_SIZE)
    columns = WEB_SIZE[0] // TILE
    for place in range(columns * (WEB_SIZE[1] // TILE)):
        corner = (place % columns * TILE, place // columns * TILE)
        whole.paste(pictures[(first + place) % len(pictures)], corner)
    file = io.BytesIO()
    whole.save(file, "JPEG", quality=QUALITY)
    return RawSample("web.tar", raw.key, raw.row, {"jpg": file.getvalue(), "txt": raw.members["txt"]})


def write_shard(path: Path, samples: Sequence[RawSample]) -> PlannedShard:
    """Write the samples' members as one shard."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for row, raw in enumerate(samples):
            for extension, data in raw.members.items():
                member = tarfile.TarInfo(f"{row:08d}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return PlannedShard(index=0, uri=str(path), size=path.stat().st_size)
