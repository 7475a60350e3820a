"""Work on pairs batch by batch; where memory runs out the batch is halved, and what was done stays done."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog
import torch

from diffin.contrastive import Pairs

T = TypeVar("T")


@dataclass
class Batches:
    """Batches on a device; `size` shrinks when one does not fit, and stays so."""

    device: torch.device
    size: int

    def map(self, pairs: Pairs, work: Callable[[Pairs], T], beat: Callable[[float], None]) -> list[T]:
        """Return the outcome of each batch, in order.

        Args:
            beat: called after each batch with the share of the pairs that is done.

        Raises:
            torch.OutOfMemoryError, RuntimeError: a single pair does not fit.
        """
        outcomes: list[T] = []
        start = 0
        while start < len(pairs):
            size = min(self.size, len(pairs) - start)
            try:
                outcomes.append(work(pairs[start : start + size].to(self.device)))
            except (RuntimeError, MemoryError) as error:
                if size == 1 or not _out_of_memory(error):
                    raise
                self.size = size // 2
            else:
                start += size
                beat(start / len(pairs))
                continue
            structlog.get_logger().warning("out of memory, smaller batches", batch_size=self.size)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return outcomes


def _out_of_memory(error: Exception) -> bool:
    """Tell whether an allocator gave up: CUDA's has a class of its own, the CPU's only a message."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)
