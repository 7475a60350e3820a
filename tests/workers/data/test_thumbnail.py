"""Thumbnails are small, have the image's proportions, and show it."""

import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from coreset_workers.data.thumbnail import LONGEST_SIDE, thumbnail

sides = st.integers(1, 300)


@given(sides, sides)
@settings(max_examples=30, deadline=None)
def test_the_longest_side_is_cut_and_none_grows(width: int, height: int) -> None:
    made = Image.open(io.BytesIO(thumbnail(Image.new("RGB", (width, height)))))
    scale = max(made.size) / max(width, height)
    assert max(made.size) == min(LONGEST_SIDE, max(width, height))
    assert all(abs(got - scale * side) <= 0.5 or got == 1 for got, side in zip(made.size, (width, height), strict=True))


def test_it_shows_the_image() -> None:
    ramp = np.linspace(0, 255, 320).astype(np.uint8)
    data = thumbnail(Image.fromarray(np.broadcast_to(ramp[None, :, None], (240, 320, 3)).copy()))
    columns = np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=float).mean(0)
    assert np.abs(columns - np.linspace(0, 255, LONGEST_SIDE)).max() < 6
    assert len(data) < 2000
