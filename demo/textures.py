"""Named colours and patterns, and the surfaces (H, W, 3) in float32 0..255 that they make."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.floating[Any]]
"""A float32 image or one of its channels; numpy's type stubs do not follow float32 through arithmetic."""

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (212, 38, 40),
    "orange": (244, 132, 28),
    "yellow": (248, 216, 52),
    "green": (52, 158, 68),
    "turquoise": (58, 202, 200),
    "blue": (38, 84, 208),
    "purple": (126, 56, 172),
    "pink": (246, 142, 188),
    "brown": (128, 78, 42),
    "black": (32, 32, 36),
    "grey": (138, 138, 142),
    "white": (244, 244, 240),
}


SECOND_SHADE = 0.42
"""How far the second shade lies from the first, on the way to white or black."""


def _cycle(x: Plane) -> Plane:
    """The fractional part, several times faster than `x % 1`."""
    return x - np.floor(x)


def _along(angle: float, x: Plane, y: Plane) -> Plane:
    """Distance from the origin in the direction of `angle`."""
    return np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y


def _plain(x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    return np.zeros_like(x)


def _striped(x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 1)
    return (_cycle(_along(angle, x, y) + phase) < 0.45).astype(np.float32)


def _dotted(x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    shift_x, shift_y = rng.uniform(0, 1, size=2)
    return ((_cycle(x + shift_x) - 0.5) ** 2 + (_cycle(y + shift_y) - 0.5) ** 2 < 0.09).astype(np.float32)


def _checked(x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    shift_x, shift_y = rng.uniform(0, 1, size=2)
    return (2 * _cycle((np.floor(x + shift_x) + np.floor(y + shift_y)) / 2)).astype(np.float32)


def _speckled(x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    return rng.random(x.shape, dtype=np.float32) ** 2


def _shaded(x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    angle = rng.uniform(0, 2 * np.pi)
    ramp = _along(angle, x, y)
    low, high = float(ramp.min()), float(ramp.max())
    return (ramp - low) / np.float32(max(high - low, 1e-6))


PATTERNS: dict[str, Callable[[Plane, Plane, np.random.Generator], Plane]] = {
    "plain": _plain,
    "striped": _striped,
    "dotted": _dotted,
    "checked": _checked,
    "speckled": _speckled,
    "shaded": _shaded,
}
"""Each pattern maps coordinates in periods (H, W) to the share of the second shade, 0..1 (H, W)."""


def surface(
    colour: str, pattern: str, shape: tuple[int, int], period: float, softness: float, rng: np.random.Generator
) -> Plane:
    """Fill `shape` (H, W) with two shades of one colour.

    `period` is the pattern's repeat in pixels; `softness` 0..1 pales both shades, for backgrounds.
    """
    base = np.asarray(PALETTE[colour], dtype=np.float32) + rng.normal(0, 7, size=3).astype(np.float32)
    base += np.float32(softness) * (np.float32(170) - base)
    y, x = np.indices(shape, dtype=np.float32) / np.float32(period)
    share = PATTERNS[pattern](x, y, rng)[..., None]
    return base + share * (_second_shade(base) - base)


def _second_shade(base: Plane) -> Plane:
    """A lighter shade of dark colours, a darker one of light colours: the colour's name stays true."""
    target = 255 if base.mean() < 120 else 0
    return base + SECOND_SHADE * (target - base)
