"""The pipeline benchmark's parts: its shards are real ones, its clock counts what it says."""

import io
import time
from pathlib import Path

import numpy as np
import pytest
from open_clip.transform import PreprocessCfg
from PIL import Image

from benchmarks.pipeline.decoders import DECODERS, compared, decoders
from benchmarks.pipeline.watched import Clock
from benchmarks.shards import raw_samples, web_sized, write_shard
from coreset_workers.data.tar import ShardReader


def test_web_sized_images_are_tiled_jpegs_with_their_captions(tmp_path: Path) -> None:
    drawn = raw_samples(None, 5, tmp_path)
    shard = write_shard(tmp_path / "0.tar", web_sized(drawn))
    found = list(ShardReader(shard.uri, shard.size))
    assert [raw.members["txt"] for raw in found] == [raw.members["txt"] for raw in drawn]
    pictures = [Image.open(io.BytesIO(raw.image() or b"")) for raw in found]
    assert {(picture.format, picture.size) for picture in pictures} == {("JPEG", (640, 480))}


@pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")  # torchvision's decoders will go
def test_decoders_are_held_to_pillow(tmp_path: Path) -> None:
    images = [raw.image() or b"" for raw in web_sized(raw_samples(None, 2, tmp_path))]
    found = decoders(images, PreprocessCfg(size=32), rounds=1)
    assert found.keys() == DECODERS.keys()
    assert found["simplejpeg_fast"]["largest_difference"] > 0
    assert found["pillow"]["share_differing"] == 0
    assert all(0 < row["decode_ms"] < row["with_resize_ms"] for row in found.values())


def test_differences_are_counted_in_levels_and_shares() -> None:
    one = np.zeros((2, 2), np.uint8)
    other = np.array([[0, 3], [0, 0]], np.uint8)
    assert compared([one], [other]) == {"largest_difference": 3.0, "share_differing": 0.25}


def test_a_clock_counts_what_making_items_takes_not_what_is_done_with_them() -> None:
    clock, now = Clock(), iter(range(100))
    seen = list(clock.each("read", "abc", lambda: float(next(now))))
    assert seen == ["a", "b", "c"]
    assert clock.seconds == {"read": 4.0}  # three items and the end, a tick each
    assert clock.call("write", lambda: 7, time.perf_counter) == 7
    assert clock.seconds["write"] > 0
