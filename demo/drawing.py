"""Draws a scene: background, soft shadows, textured objects, a little sensor noise, JPEG."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo.scenes import Scene, Thing
from demo.shapes import coverage
from demo.textures import surface

Canvas = NDArray[np.floating[Any]]

BACKGROUND_PALENESS = 0.3
SHADOW = 0.4
SENSOR_NOISE = 4.0


def draw(scene: Scene) -> Image.Image:
    """Draw the scene as RGB, width x height; the same scene gives the same pixels."""
    rng = np.random.default_rng(scene.texture_seed)
    period = rng.uniform(9, 15)
    canvas = surface(scene.colour, scene.pattern, (scene.height, scene.width), period, BACKGROUND_PALENESS, rng)
    for thing in scene.things:
        _paint(canvas, thing, rng)
    canvas += SENSOR_NOISE * rng.standard_normal((scene.height, scene.width, 1), dtype=np.float32)
    return Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int) -> bytes:
    """Encode as baseline JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def near_copy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A near duplicate: crop 0 to 3 pixels off each side, at least one in all, and keep the rest as it is."""
    left, top, right, bottom = (int(cut) for cut in rng.integers(0, 4, size=4))
    return image.crop((max(left, 1), top, image.width - right, image.height - bottom))


def _paint(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """Put the object and its shadow, which falls to the lower right, on the canvas (H, W, 3) in place."""
    height, width, _ = canvas.shape
    radius = thing.radius * min(height, width)
    left, top = int(thing.x * width - radius) - 1, int(thing.y * height - radius) - 1
    side = int(2 * radius) + 4
    mask = _mask(thing, side, radius, thing.x * width - left, thing.y * height - top)
    texture = surface(thing.colour, thing.pattern, (side, side), max(4.0, radius * 0.55), 0.0, rng)
    drop = max(1, round(radius / 8))
    _blend(canvas, np.zeros_like(texture), SHADOW * mask, left + drop, top + drop)
    _blend(canvas, texture, mask, left, top)


def _mask(thing: Thing, side: int, radius: float, centre_x: float, centre_y: float) -> Canvas:
    """Coverage (side, side) of the turned object around its centre, given in the patch's pixels."""
    steps = (np.arange(2 * side, dtype=np.float32) + 0.5) / 2
    x, y = np.meshgrid((steps - centre_x) / radius, (steps - centre_y) / radius)
    cos, sin = np.float32(np.cos(thing.angle)), np.float32(np.sin(thing.angle))
    return coverage(thing.kind, (cos * x + sin * y).astype(np.float32), (cos * y - sin * x).astype(np.float32))


def _blend(canvas: Canvas, patch: Canvas, mask: Canvas, left: int, top: int) -> None:
    """Mix `patch` (S, S, 3) into the canvas by `mask` (S, S), cut at the canvas's edges."""
    height, width, _ = canvas.shape
    side = len(mask)
    rows, columns = slice(max(top, 0), min(top + side, height)), slice(max(left, 0), min(left + side, width))
    inner = np.s_[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    canvas[rows, columns] += mask[inner][..., None] * (patch[inner] - canvas[rows, columns])
