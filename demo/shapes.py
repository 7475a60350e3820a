"""Outlines of the drawn objects: each shape is a predicate on the points of the square [-1, 1]^2 (y down)."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]
Mask = NDArray[np.bool_]
Shape = Callable[[Points, Points], Mask]


def _circle(x: Points, y: Points) -> Mask:
    return np.hypot(x, y) < 0.92


def _square(x: Points, y: Points) -> Mask:
    return np.maximum(np.abs(x), np.abs(y)) < 0.8


def _triangle(x: Points, y: Points) -> Mask:
    return (np.abs(x) < 0.55 * (y + 0.92)) & (y < 0.78)


def _star(x: Points, y: Points) -> Mask:
    """Five points: fold the plane into one tenth of the turn, where the outline is a straight line."""
    tenth, inner = np.pi / 5, 0.42
    angle = np.abs((np.arctan2(x, -y) + tenth) % (2 * tenth) - tenth)
    radius = np.hypot(x, y)
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    corner_x, corner_y = inner * np.cos(tenth), inner * np.sin(tenth)
    return (along - 1) * corner_y - across * (corner_x - 1) < 0


def _ring(x: Points, y: Points) -> Mask:
    return np.abs(np.hypot(x, y) - 0.7) < 0.24


def _cross(x: Points, y: Points) -> Mask:
    near, far = np.minimum(np.abs(x), np.abs(y)), np.maximum(np.abs(x), np.abs(y))
    return (near < 0.28) & (far < 0.9)


def _heart(x: Points, y: Points) -> Mask:
    x, y = 1.22 * x, 0.12 - 1.22 * y
    return (x**2 + y**2 - 1) ** 3 < x**2 * y**3


def _moon(x: Points, y: Points) -> Mask:
    return (np.hypot(x, y) < 0.95) & (np.hypot(x - 0.48, y + 0.12) > 0.78)


def _tree(x: Points, y: Points) -> Mask:
    top = (np.abs(x) < 0.65 * (y + 0.98)) & (y < -0.1)
    skirt = (np.abs(x) < 0.62 * (y + 0.62)) & (y > -0.4) & (y < 0.55)
    trunk = (np.abs(x) < 0.16) & (y >= 0.5) & (y < 0.97)
    return top | skirt | trunk


def _house(x: Points, y: Points) -> Mask:
    roof = (np.abs(x) < 1.05 * (y + 0.92)) & (y < -0.02)
    wall = (np.abs(x) < 0.68) & (y >= -0.05) & (y < 0.88)
    door = (np.abs(x) < 0.18) & (y > 0.32)
    return (roof | wall) & ~door


def _flower(x: Points, y: Points) -> Mask:
    radius = np.hypot(x, y)
    petals = radius < 0.62 + 0.33 * np.cos(5 * np.arctan2(x, -y))
    return petals & (radius > 0.2)


def _fish(x: Points, y: Points) -> Mask:
    body = np.hypot((x + 0.2) / 0.72, y / 0.5) < 1
    tail = (np.abs(y) < 0.9 * (x - 0.22)) & (x < 0.92)
    eye = np.hypot(x + 0.55, y + 0.1) < 0.12
    return (body | tail) & ~eye


SHAPES: dict[str, Shape] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
    "heart": _heart,
    "moon": _moon,
    "tree": _tree,
    "house": _house,
    "flower": _flower,
    "fish": _fish,
}


def coverage(kind: str, x: Points, y: Points) -> NDArray[np.float32]:
    """Share of each pixel that the shape covers, from the points of a grid twice as fine (2H, 2W) -> (H, W)."""
    inside = SHAPES[kind](x, y).astype(np.float32)
    height, width = inside.shape
    return inside.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
