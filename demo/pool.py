"""`python -m demo.pool OUT_DIR`: draws a pool of image-text pairs as WebDataset shards, with known defects.

Beside the shards stands `defects.parquet` (uid, shard, key, defect), which lists what was spoiled on purpose;
the service never reads it.
"""

import argparse
import io
import json
import multiprocessing
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from demo.drawing import draw, jpeg, near_copy
from demo.plan import Defect, PlannedSample, plan_pool, sound_pool

DEFECTS_FILE = "defects.parquet"
PARALLEL_FROM = 1000
"""Pools smaller than this are drawn in this process: starting others takes longer."""


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """One shard to write, with its samples in order."""

    path: Path
    samples: tuple[PlannedSample, ...]

    def key(self, row: int) -> str:
        """The key of a sample: the shard's number and the row, as img2dataset builds it."""
        return f"{self.path.stem}{row:04d}"


def write_pool(directory: Path, samples: int = 3000, shards: int = 6, seed: int = 0) -> list[Path]:
    """Draw the pool into `directory` and return the shards' paths; the same numbers give the same bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    plans = _cut(directory, plan_pool(samples, seed), shards)
    if samples < PARALLEL_FROM:
        for plan in plans:
            write_shard(plan)
    else:
        with multiprocessing.get_context("spawn").Pool(min(shards, os.cpu_count() or 1)) as processes:
            processes.map(write_shard, plans, chunksize=1)
    _write_defects(directory / DEFECTS_FILE, plans)
    return [plan.path for plan in plans]


def write_sound_shard(path: Path, samples: int, seed: int) -> None:
    """Draw one shard without defects; another seed than the pool's gives other samples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_shard(ShardPlan(path, tuple(sound_pool(samples, seed))))


def write_shard(plan: ShardPlan) -> None:
    """Write one shard under a temporary name, then rename it."""
    partial = plan.path.with_suffix(".tar.partial")
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        for row, sample in enumerate(plan.samples):
            for extension, content in _members(sample):
                member = tarfile.TarInfo(f"{plan.key(row)}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    partial.replace(plan.path)


def _cut(directory: Path, pool: Sequence[PlannedSample], shards: int) -> list[ShardPlan]:
    """Cut the pool into shards whose sizes differ by one at most."""
    if not 0 < shards <= len(pool):
        raise ValueError(f"cannot cut {len(pool)} samples into {shards} shards")
    bounds = [len(pool) * shard // shards for shard in range(shards + 1)]
    return [
        ShardPlan(directory / f"{shard:06d}.tar", tuple(pool[bounds[shard] : bounds[shard + 1]]))
        for shard in range(shards)
    ]


def _members(sample: PlannedSample) -> Iterator[tuple[str, bytes]]:
    """The sample's files as (extension, content)."""
    image, size = _image(sample)
    if sample.defect != Defect.IMAGELESS:
        yield "jpg", image
    yield "txt", sample.text.encode()
    facts = {"uid": sample.uid, "width": size[0], "height": size[1], "caption": sample.text}
    yield "json", json.dumps(facts).encode()


def _image(sample: PlannedSample) -> tuple[bytes, tuple[int, int]]:
    """The JPEG, spoiled as planned, and its true (width, height) in pixels."""
    rng = np.random.default_rng(sample.seed)
    image = draw(sample.scene)
    if sample.defect == Defect.NEAR_DUPLICATE:
        image = near_copy(image, rng)
    content = jpeg(image, quality=int(rng.integers(82, 96)))
    if sample.defect == Defect.BROKEN:
        content = _break(content, rng)
    return content, image.size


def _break(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut the file off after a third, or replace it all by noise."""
    return content[: len(content) // 3] if rng.random() < 0.5 else rng.bytes(len(content))


def _write_defects(path: Path, plans: Sequence[ShardPlan]) -> None:
    rows = [
        {"uid": sample.uid, "shard": plan.path.name, "key": plan.key(row), "defect": str(sample.defect)}
        for plan in plans
        for row, sample in enumerate(plan.samples)
        if sample.defect
    ]
    partial = path.with_suffix(".parquet.partial")
    pq.write_table(pa.Table.from_pylist(rows), partial)
    partial.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo.pool", description="Draw a pool of image-text pairs.")
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--shards", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shards = write_pool(options.out_dir, options.samples, options.shards, options.seed)
    print(f"{options.samples} samples in {len(shards)} shards, what is wrong with them in {DEFECTS_FILE}")


if __name__ == "__main__":
    main()
