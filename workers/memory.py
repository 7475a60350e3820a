"""How much memory a plan takes, before it runs: the plan's own code, traced on tensors that hold no data.

Every intermediate of a pass has a size that its shapes alone decide. So the pass is run on fake tensors, which nothing
is allocated for and nothing is computed on, and the bytes that are alive at once are counted. What a kernel takes for
itself inside, and what an allocator holds back, is not seen.
"""

import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from diffin.contrastive import Encoded, Pairs
from diffin.samples import ContrastiveLosses
from workers.clip_model import ClipModel

LARGEST_BATCH = {"cpu": 64, "cuda": 1024}
"""Samples; on a CPU larger batches fall out of the cache and gain nothing."""

CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def peak_bytes(work: Callable[[], object]) -> int:
    """Run `work` on fake tensors and return the most bytes that the real ones would hold at once.

    Tensors that `work` did not make count 0.
    """
    alive = _Alive()
    with FakeTensorMode(allow_non_fake_inputs=True), alive:
        work()
    return alive.peak


def count_flops(work: Callable[[], object]) -> int:
    """Return the floating-point operations of `work`, run on fake tensors; a multiplication with its addition is 2."""
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


class _Alive(TorchDispatchMode):
    """Counts the bytes of all storages that were made under it and are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outcome = func(*args, **(kwargs or {}))
        for value in tree_leaves(outcome):
            if isinstance(value, Tensor):
                self._add(value.untyped_storage())
        self.peak = max(self.peak, self._now)
        return outcome

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self._now += size
            weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


def forward(model: ClipModel, samples: int, reference_size: int) -> Callable[[], object]:
    """Return the work of a batch's losses at one point, for the tracers: the towers, and the logits against B."""

    def work() -> None:
        encode, pairs = model.encoder(fixed_tensors(model)), fake_pairs(model, samples)
        with torch.no_grad():
            encoded = encode(fake_theta(model), pairs).double()
            image, text = (value.new_zeros(reference_size, value.shape[1]) for value in (encoded.image, encoded.text))
            context = Encoded(image, text, encoded.scale, encoded.bias)
            ContrastiveLosses(encode, fake_pairs(model, reference_size), model.kind).of(encoded, context, pairs)

    return work


def bytes_a_sample(model: ClipModel, reference_size: int) -> float:
    """Return what each sample adds to a forward pass: its image, its activations, its logits."""
    few, many = (peak_bytes(forward(model, n, reference_size)) for n in (64, 128))
    return (many - few) / 64


def batch_size(model: ClipModel, reference_size: int, share: float = 0.5, free: int | None = None) -> int:
    """Return the largest power of two of samples whose forward pass fits into a share of the free memory; at least 1.

    Args:
        model: on its device, in the precision that it will run in.
        reference_size: R; each sample has 2 R logits.
        share: of the free memory.
        free: bytes; None asks the model's device. What the scorer holds (parameters, directions) should be there
            already, or be taken off.
    """
    free = free_bytes(model.device) if free is None else free
    return largest_batch(bytes_a_sample(model, reference_size), share * free, LARGEST_BATCH[model.device.type])


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
    """Return the free memory of the machine: without swapping where Linux tells it, else all that is built in."""
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


def fake_theta(model: ClipModel) -> Tensor:
    return torch.zeros(model.layout.size, device=model.device, dtype=model.mean.dtype)


def fixed_tensors(model: ClipModel) -> dict[str, Tensor]:
    return {name: value for name, value in model.module.state_dict().items() if name not in model.layout.names}


def fake_pairs(model: ClipModel, samples: int) -> Pairs:
    """Return pairs in the shapes that the model takes; to be called under `trace`."""
    module: Any = model.module
    size = model.cfg.size if isinstance(model.cfg.size, tuple | list) else (model.cfg.size, model.cfg.size)
    ids = torch.zeros(2, samples, device=model.device, dtype=torch.int64)
    images = torch.zeros(samples, 3, *size, device=model.device, dtype=torch.uint8)
    tokens = torch.zeros(samples, module.context_length, device=model.device, dtype=torch.int64)
    return Pairs(images, tokens, *ids.unbind())
