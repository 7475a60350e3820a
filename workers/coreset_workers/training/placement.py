"""Which checkpoints of a training are kept: at equal falls of the held-out loss, the lowest last."""

import math
from collections.abc import Iterable, Sequence

PATIENCE = 1 / 8
"""Share of the measurements that may follow the lowest loss before training stops."""


def lowest(losses: Sequence[float]) -> int:
    """Return the measurement with the lowest loss, the first of equal ones; the one before training does not count.

    Args:
        losses: before training, then at each measurement; at least two.
    """
    return min(range(1, len(losses)), key=losses.__getitem__)


def place(losses: Sequence[float], available: Iterable[int], wanted: int) -> list[int]:
    """Return at most `wanted` of the available measurements, in order, the lowest loss last.

    The loss falls by about the same amount from each to the next: checkpoints lie densely where it falls steeply.

    Args:
        losses: as in `lowest`, whose measurement must be available.
    """
    best = lowest(losses)
    fall = losses[0] - losses[best]
    before = sorted(k for k in available if k <= best)
    levels = [losses[0] - fall * part / wanted for part in range(1, wanted)] if fall > 0 else []
    reached = (next((k for k in before if losses[k] <= level), best) for level in levels)
    return sorted({*reached, best})


def has_ended(losses: Sequence[float], intervals: int) -> bool:
    """Return whether the losses have not fallen for the patience's measurements, or the schedule is over."""
    measured = len(losses) - 1
    return measured >= intervals or (measured > 0 and measured - lowest(losses) >= patience(intervals))


def patience(intervals: int) -> int:
    """Return the number of measurements after the lowest loss at which training stops."""
    return max(2, math.ceil(PATIENCE * intervals))
