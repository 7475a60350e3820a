"""What a drawn sample shows: a `Scene` of 1 to 3 objects before a background, chosen at random but reproducibly."""

from bisect import bisect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from demo.shapes import SHAPES
from demo.textures import PALETTE, PATTERNS

SIZES = {
    1: {"small": (0.14, 0.18), "medium": (0.22, 0.27), "big": (0.32, 0.40)},
    2: {"small": (0.12, 0.15), "medium": (0.17, 0.20), "big": (0.23, 0.26)},
    3: {"small": (0.11, 0.13), "medium": (0.15, 0.18)},
}
"""Object count -> size word -> range of the radius, as a fraction of the image's shorter side."""

PLACES = {
    "middle": (0.5, 0.5),
    "left": (0.28, 0.5),
    "right": (0.72, 0.5),
    "top": (0.5, 0.28),
    "bottom": (0.5, 0.72),
    "top left": (0.28, 0.28),
    "top right": (0.72, 0.28),
    "bottom left": (0.28, 0.72),
    "bottom right": (0.72, 0.72),
}
"""Where a single object stands: centre (x, y) as fractions of width and height."""

LAYOUTS = {
    "row": ((0.26, 0.5), (0.74, 0.5)),
    "column": ((0.5, 0.26), (0.5, 0.74)),
    "long row": ((0.18, 0.5), (0.5, 0.5), (0.82, 0.5)),
    "long column": ((0.5, 0.18), (0.5, 0.5), (0.5, 0.82)),
    "pyramid": ((0.5, 0.26), (0.26, 0.74), (0.74, 0.74)),
}
"""Centres of 2 or 3 objects, in reading order."""

COUNT_ODDS = (0.35, 0.8)
"""A uniform number below the first bound means one object, below the second two, else three."""

SHORT_SIDE_PIXELS = (64, 76)
LONGEST_ASPECT = 1.25


@dataclass(frozen=True, slots=True)
class Thing:
    """One object: what it is, and its centre (fractions of width and height), radius (of the shorter side), turn."""

    kind: str
    colour: str
    pattern: str
    size: str
    x: float
    y: float
    radius: float
    angle: float


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that decides an image and its captions; width and height in pixels."""

    width: int
    height: int
    things: tuple[Thing, ...]
    layout: str
    colour: str
    pattern: str
    texture_seed: int

    def content(self) -> Counter[tuple[str, str]]:
        """The objects as a multiset of (kind, colour): two scenes that differ here cannot share a true caption."""
        return Counter((thing.kind, thing.colour) for thing in self.things)


def random_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene; no object has the background's colour."""
    width, height = _random_sides(rng)
    count = 1 + bisect(COUNT_ODDS, rng.random())
    layout, centres = _random_layout(rng, count)
    colour = _pick(rng, list(PALETTE))
    colours = [name for name in PALETTE if name != colour]
    kinds = [list(SHAPES)[index] for index in rng.permutation(len(SHAPES))[:count]]
    things = tuple(
        _random_thing(rng, kind, colours, count, centre) for kind, centre in zip(kinds, centres, strict=True)
    )
    return Scene(width, height, things, layout, colour, _pick(rng, list(PATTERNS)), int(rng.integers(2**31)))


def _random_sides(rng: np.random.Generator) -> tuple[int, int]:
    """Width and height in pixels, upright or lying; training's random crops take in almost all of such an aspect."""
    short = int(rng.integers(SHORT_SIDE_PIXELS[0], SHORT_SIDE_PIXELS[1] + 1))
    long = round(short * rng.uniform(1, LONGEST_ASPECT))
    return (short, long) if rng.random() < 0.5 else (long, short)


def _random_layout(rng: np.random.Generator, count: int) -> tuple[str, Sequence[tuple[float, float]]]:
    if count == 1:
        place = _pick(rng, list(PLACES))
        return place, [PLACES[place]]
    layout = _pick(rng, [name for name, centres in LAYOUTS.items() if len(centres) == count])
    return layout, LAYOUTS[layout]


def _random_thing(
    rng: np.random.Generator, kind: str, colours: Sequence[str], count: int, centre: tuple[float, float]
) -> Thing:
    size = _pick(rng, list(SIZES[count]))
    radius = rng.uniform(*SIZES[count][size])
    x, y = (_inside(value + rng.uniform(-0.03, 0.03), radius) for value in centre)
    pattern, angle = _pick(rng, list(PATTERNS)), rng.uniform(-0.25, 0.25)
    return Thing(kind, _pick(rng, colours), pattern, size, x, y, radius, angle)


def _inside(value: float, radius: float) -> float:
    """Move a centre so that the object stays in the image (exact along the shorter side)."""
    return min(max(value, radius), 1 - radius)


def _pick(rng: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(rng.integers(len(words)))]
