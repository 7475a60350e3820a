"""Batch sizes of forward passes and of Hessian-vector products, from the free memory."""

import os
from pathlib import Path

import torch

from coreset_workers.model.clip import ClipModel
from coreset_workers.model.meta_device import Shadow, peak_bytes

LARGEST_BATCH = {"cpu": 64, "cuda": 1024}
"""Samples of a forward pass at most; on a CPU larger batches fall out of the cache and gain nothing."""

SMALLEST_BATCH = 16
"""Samples of a forward pass at least, if memory allows. A kernel is chosen by the shape: batches of 16, 32 and 64 gave
the same bits on a small ViT; smaller ones moved scores, by up to 1.5e-3 of the largest diffin_eq9 in float32."""

CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def bytes_a_sample(shadow: Shadow, reference_size: int) -> float:
    """Return the bytes that each sample adds to a forward pass: its image, its activations, its 2 R logits."""
    few, many = (peak_bytes(shadow.forward(n, reference_size)) for n in (64, 128))
    return (many - few) / 64


def batch_size(model: ClipModel, reference_size: int, free: int | None = None) -> int:
    """Return how many samples a forward pass that scores should have.

    Args:
        model: on its device, in the precision that it will run in.
        reference_size: R.
        free: bytes; None asks the model's device. Subtract the parameters and directions that the
            scorer has still to allocate.
    """
    free = free_bytes(model.device) if free is None else free
    return scoring_batch(bytes_a_sample(Shadow.of(model), reference_size), free, LARGEST_BATCH[model.device.type])


def scoring_batch(each: float, free: float, largest: int) -> int:
    """Return the largest power of two of samples of `each` bytes that fits into half of the free memory; at least 1.

    It is at least SMALLEST_BATCH if that many fit into all of the free memory.
    """
    return max(largest_batch(each, free / 2, largest), largest_batch(each, free, SMALLEST_BATCH))


LARGEST_GRAPH = 64
"""Samples whose graph a Hessian-vector product keeps in memory at once; more gain nothing."""

MEMORY_IN_PIECES = 4 / 3
"""Memory of a sample's graph in a split minibatch, relative to a whole one (traced on ViT-B-32, RN50, ViT-L-14)."""


def graph_samples(model: ClipModel, free: int | None = None) -> int:
    """Return the largest power of two of samples, up to 64, whose Hessian-vector product fits into half of the memory.

    ViT-B-32 takes 12 GB for 64, ViT-L-14 92 GB.
    """
    shadow = Shadow.of(model)
    few, many = (peak_bytes(shadow.product(n)) for n in (2, 4))
    each = (many - few) / 2
    free = free_bytes(model.device) if free is None else free
    return largest_batch(MEMORY_IN_PIECES * each, free / 2 - (few - 2 * each), LARGEST_GRAPH)


def held_bytes(device: torch.device) -> int:
    """Return the bytes of parameters and directions that scoring may keep on a device: half of what is free."""
    return free_bytes(device) // 2


def largest_batch(each: float, budget: float, largest: int) -> int:
    """Return the largest power of two, up to `largest`, of samples of `each` bytes within the budget; at least 1."""
    size = largest
    while size > 1 and size * each > budget:
        size //= 2
    return size


def free_bytes(device: torch.device) -> int:
    """Return the bytes that this process may still take: on a GPU with what its allocator holds unused."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return min([_available(), *_left_in_groups()])


def _available() -> int:
    """Return the free memory of the machine: without swapping on Linux, elsewhere all that is built in."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _left_in_groups() -> list[int]:
    """Return what the control group of a container leaves; its page cache counts as used, which is on the safe side."""
    left = []
    for limit, used in CGROUPS:
        try:
            left.append(max(0, int(limit.read_text()) - int(used.read_text())))
        except (OSError, ValueError):  # no such group, or `max`: no limit
            continue
    return left
