"""Memory and operations of a computation, counted on the meta device without doing it.

A tensor there has a shape and no data, and shapes alone decide how large every intermediate is, so the very code that
will run can be traced. Memory inside a kernel, and what an allocator keeps in reserve, is not seen.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from coreset_workers.model.clip import ClipModel
from diffin.autodiff import derivative
from diffin.batch_loss import ContrastiveLoss, Encoder
from diffin.contrastive import Encoded, Pairs
from diffin.samples import ContrastiveLosses

Work = Callable[[], object]


def peak_bytes(work: Work) -> int:
    """Return the most bytes of tensors, made by `work`, that are alive at once."""
    alive = _Alive()
    with alive:
        work()
    return alive.peak


def count_flops(work: Work) -> int:
    """Return the floating-point operations of `work`; a multiplication with its addition is 2."""
    with FlopCounterMode(display=False) as counter:
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


@dataclass(frozen=True)
class Shadow:
    """A model on the meta device: its shapes without its numbers.

    Attributes:
        fixed: by name, all parameters and buffers that are not counted.
    """

    model: ClipModel
    fixed: dict[str, Tensor]

    @classmethod
    def of(cls, model: ClipModel) -> "Shadow":
        counted = set(model.layout.names)
        everything = chain(model.module.named_parameters(), model.module.named_buffers())
        fixed = {name: value.to("meta") for name, value in everything if name not in counted}
        return cls(replace(model, mean=model.mean.to("meta"), std=model.std.to("meta")), fixed)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(3, H, W) of the images that the model takes."""
        size = self.model.cfg.size
        height, width = size if isinstance(size, tuple | list) else (size, size)
        return 3, height, width

    def forward(self, samples: int, reference_size: int) -> Work:
        """Return the work of a batch's losses at one point: the towers, and the logits against B."""

        def work() -> None:
            losses, pairs = self._losses(reference_size), self.pairs(samples)
            with torch.no_grad():
                encoded = losses.encode(self._theta(), pairs).double()
                rows = encoded.image.new_zeros(reference_size, encoded.image.shape[1])
                losses.of(encoded, Encoded(rows, rows, encoded.scale, encoded.bias), pairs)

        return work

    def product(self, samples: int) -> Work:
        """Return the work of a Hessian-vector product of a minibatch."""
        return lambda: ContrastiveLoss(self._encode, self.pairs(samples), self.model.kind).hvp(
            self._theta(), self._theta()
        )

    def exact(self, samples: int, reference_size: int) -> Work:
        """Return the work of the exact derivatives of samples' losses along a direction, B moving along."""

        def work() -> None:
            losses, pairs = self._losses(reference_size), self.pairs(samples)
            along = lambda theta: losses.losses(theta, losses.context(theta), pairs)  # noqa: E731
            derivative(along, self._theta(), self._theta())

        return work

    @property
    def _encode(self) -> Encoder:
        return self.model.encoder(self.fixed)

    def _losses(self, reference_size: int) -> ContrastiveLosses:
        return ContrastiveLosses(self._encode, self.pairs(reference_size), self.model.kind)

    def _theta(self) -> Tensor:
        return torch.zeros(self.model.layout.size, device="meta", dtype=self.model.mean.dtype)

    def pairs(self, samples: int) -> Pairs:
        """Return pairs in the shapes that the model takes."""
        module: Any = self.model.module
        images = torch.zeros(samples, *self.image_shape, device="meta", dtype=torch.uint8)
        tokens = torch.zeros(samples, module.context_length, device="meta", dtype=torch.int64)
        ids = torch.zeros(samples, device="meta", dtype=torch.int64)
        return Pairs(images, tokens, ids, ids)
