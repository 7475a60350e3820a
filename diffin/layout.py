"""Parameters as one flat vector (p,), and back."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

Params = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the parameters that are counted, in the order of the flat vector."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @classmethod
    def of(cls, params: Mapping[str, Tensor]) -> Self:
        return cls(tuple(params), tuple(value.shape for value in params.values()))

    @property
    def size(self) -> int:
        """p, the number of parameters counted."""
        return sum(shape.numel() for shape in self.shapes)

    def flatten(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return the parameters of this layout as one vector (p,).

        Raises:
            ValueError: a parameter has another shape than the layout says.
        """
        for name, shape in zip(self.names, self.shapes, strict=True):
            if params[name].shape != shape:
                raise ValueError(f"{name}: expected shape {tuple(shape)}, got {tuple(params[name].shape)}")
        return torch.cat([params[name].reshape(-1) for name in self.names])

    def unflatten(self, vector: Tensor) -> Params:
        """Return views of `vector` (p,) by name.

        One `split`, because its derivative is one `cat`; the derivative of p slices is p vectors of zeros.
        """
        parts = torch.split(vector, [shape.numel() for shape in self.shapes])
        return {name: part.view(shape) for name, shape, part in zip(self.names, self.shapes, parts, strict=True)}


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return <a, b> () accumulated in float64, in pieces, so that no float64 copy of a long vector is made."""
    pieces = zip(a.split(1 << 22), b.split(1 << 22), strict=True)
    return torch.stack([x.double() @ y.double() for x, y in pieces]).sum()


def norm(vector: Tensor) -> float:
    """Return |vector|, Euclidean. In float32 the squares of numbers under 1e-23 would be 0, of those over 1e19 inf."""
    return math.sqrt(float(dot(vector, vector)))
