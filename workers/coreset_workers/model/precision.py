"""Arithmetic of the scoring passes: the ladder that a plan climbs until the accuracy gate is passed."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from coreset.spec.scores import ESTIMATORS, Score


@dataclass(frozen=True)
class Precision:
    """The arithmetic that evaluates the estimators.

    Attributes:
        dtype: of the towers in the scoring passes.
        traced: of gradients, Hessian-vector products and directions.
        slopes: first derivatives by one pass in forward mode, which tolerates coarse arithmetic, not by differences.
        tf32: whether float32 products may be rounded to TF32's ten bits.
    """

    dtype: torch.dtype
    traced: torch.dtype
    slopes: bool = False
    tf32: bool = False

    @contextmanager
    def kernels(self) -> Iterator[None]:
        """Set torch's matrix products to those that this precision allows."""
        before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = self.tf32
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before[0])
            torch.backends.cudnn.allow_tf32 = before[1]


PRECISIONS = {
    "bfloat16": Precision(torch.bfloat16, torch.float32, slopes=True),
    "tf32": Precision(torch.float32, torch.float32, slopes=True, tf32=True),
    "float32": Precision(torch.float32, torch.float32),
    "float32, forward mode": Precision(torch.float32, torch.float32, slopes=True),
    "float64": Precision(torch.float64, torch.float64),
}
"""From the fastest to the most exact, on a GPU with matrix units."""


def ladder(device: torch.device, scores: Collection[Score]) -> list[str]:
    """Return the names of the precisions to try, in their order.

    Without an estimator there is nothing to measure, so float32 it is. On a CPU two passes of float32 cost less than
    one in forward mode, and have no coarser arithmetic; but a difference that steps over the kinks of ReLU is wrong in
    float32 as in float64, and forward mode is not. diffin_eq9 is a second derivative, which has no such pass.
    """
    if not {*ESTIMATORS, Score.SELF_INFLUENCE} & set(scores):
        return ["float32"]
    names = list(PRECISIONS)
    if device.type == "cpu":
        names = names[names.index("float32") :]
    return [name for name in names if not (PRECISIONS[name].slopes and Score.DIFFIN_EQ9 in scores)]
