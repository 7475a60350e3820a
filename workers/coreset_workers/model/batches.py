"""Batches of pairs on a device: halved when memory runs out, without repeating finished batches."""

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
        """Return the outcome of each batch, in order; the last one is padded to the size of the others.

        A kernel is chosen by the shape, and another kernel rounds otherwise, which differences of losses amplify: up
        to 1.5e-3 of the largest diffin_eq9 where 1 to 3 samples were left over. With one shape a sample's outcome does
        not depend, in any bit, on the other samples of its batch.

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
                outcomes.append(work(pairs[start : start + size].padded(self.size).to(self.device)))
            except (RuntimeError, MemoryError) as error:
                if self.size == 1 or not _out_of_memory(error):
                    raise
                self.size //= 2
            else:
                start += size
                beat(start / len(pairs))
                continue
            structlog.get_logger().warning("out of memory, smaller batches", batch_size=self.size)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return outcomes


def _out_of_memory(error: Exception) -> bool:
    """Return whether an allocator failed: CUDA's error has a class of its own, the CPU's only a message."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)
