"""Shards to blocks of tensors: decoding and tokenizing in loader processes, once for all checkpoints.

The processes come from a fork server, never from this process, which may hold a GPU and threads.
"""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from coreset.schemas.part import SampleStatus
from coreset.spec.pool import CaptionField, Captions
from coreset_workers.data.child_process import end_with_parent
from coreset_workers.data.decode import Sample, ViewFunctions, decode_pairs
from coreset_workers.data.prefetch import prefetch
from coreset_workers.data.tar import RawSample

SAMPLES_PER_CALL = 32
BYTES_PER_CALL = 64 * 2**20
BLOCK_SAMPLES = 512
"""Good samples per block, or a few more. Each block moves the parameters to each point again."""


View = Callable[[], ViewFunctions]
"""Builds one model's input functions; picklable, so that a loader process can call it."""


@dataclass(frozen=True)
class Block:
    """Consecutive samples of a shard, bad ones too, and the tensors of the good ones.

    Attributes:
        samples: all samples, in the order of the tar, without their arrays, with their thumbnails.
        good: (n,) positions in `samples` of those whose status is ok.
        images: by view, (n, 3, H, W) uint8.
        tokens: by view, (n, L) int64.
    """

    samples: list[Sample]
    good: list[int]
    images: dict[str, Tensor]
    tokens: dict[str, Tensor]

    @classmethod
    def of(cls, samples: list[Sample], views: Iterable[str]) -> Self:
        good = [i for i, sample in enumerate(samples) if sample.status is SampleStatus.OK]
        images = {view: _stack([samples[i].images[view] for i in good]) for view in views}
        tokens = {view: _stack([samples[i].tokens[view] for i in good]) for view in views}
        bare = [replace(sample, images={}, tokens={}) for sample in samples]
        return cls(bare, good, images, tokens)


def _stack(arrays: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays)) if arrays else torch.zeros(0)


class Loader:
    """Decodes raw samples in processes that live as long as the loader.

    Args:
        views: by name.
        caption_field: as in the spec.
        processes: 0 decodes in this process.
        metadata: fields of the json members to keep.
        captions: as in the spec; with `best` and `all`, a raw sample becomes one for each of its captions.
    """

    def __init__(
        self,
        views: dict[str, View],
        caption_field: CaptionField,
        processes: int,
        metadata: Sequence[str] = (),
        captions: Captions | None = None,
    ) -> None:
        self.views = views
        self.caption_field = caption_field
        self._arguments = (views, caption_field, tuple(metadata), captions)
        self._processes = processes
        self._pool = self._open() if processes else None

    def _open(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_modules(self.views))
        pool = ProcessPoolExecutor(self._processes, context, initializer=_start, initargs=self._arguments)
        pool.submit(_ready)  # the fork server imports open_clip while this process goes on
        return pool

    def decode(self, raw: Iterable[RawSample], thumbnails: bool = False) -> Iterator[Sample]:
        """Yield the decoded samples in their order, with thumbnails if asked for.

        Raises:
            RuntimeError: a loader process was killed, for example for memory. The next call starts new ones.
        """
        if self._pool is None:
            here = _load(*self._arguments)
            for sample in raw:
                yield from here.decode(sample, thumbnails)
            return
        waiting: deque[Future[list[Sample]]] = deque()
        raw = iter(raw)
        try:
            while batch := _call(raw):
                waiting.append(self._pool.submit(_decode_many, batch, thumbnails))
                if len(waiting) > 2 * self._processes:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except BrokenProcessPool as error:
            self.close()
            self._pool = self._open()  # for the tasks after this one
            raise RuntimeError("a loader process was killed; is there enough memory?") from error

    def blocks(
        self, raw: Iterable[RawSample], batch: int, most: int = BLOCK_SAMPLES, thumbnails: bool = False
    ) -> Iterator[Block]:
        """Yield the samples in blocks; the next one is decoded in the meantime.

        The first block has `batch` good samples, so that the model starts early; each further one has twice as many, up
        to `most` or a few more. All but the last make whole batches.
        """
        return prefetch(self._blocks(self.decode(raw, thumbnails), batch, most))

    def _blocks(self, samples: Iterable[Sample], wanted: int, most: int) -> Iterator[Block]:
        waiting: list[Sample] = []
        good = 0
        for sample in samples:
            waiting.append(sample)
            good += sample.status is SampleStatus.OK
            if good == wanted:
                yield Block.of(waiting, self.views)
                waiting, good = [], 0
                wanted *= 2 if wanted < most else 1
        if waiting:
            yield Block.of(waiting, self.views)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _call(raw: Iterator[RawSample]) -> list[RawSample]:
    """Take the samples of one call: SAMPLES_PER_CALL, or fewer if they are large."""
    batch: list[RawSample] = []
    size = 0
    while len(batch) < SAMPLES_PER_CALL and size < BYTES_PER_CALL and (sample := next(raw, None)) is not None:
        batch.append(sample)
        size += sum(map(len, sample.members.values()))
    return batch


@dataclass(frozen=True)
class _Loaded:
    views: dict[str, ViewFunctions]
    caption_field: CaptionField
    metadata: tuple[str, ...]
    captions: Captions | None

    def decode(self, raw: RawSample, thumbnails: bool) -> list[Sample]:
        return decode_pairs(raw, self.caption_field, self.views, self.metadata, thumbnails, self.captions)


_loaded: _Loaded


def _load(
    views: dict[str, View], caption_field: CaptionField, metadata: tuple[str, ...], captions: Captions | None
) -> _Loaded:
    return _Loaded({name: build() for name, build in views.items()}, caption_field, metadata, captions)


def _modules(views: Mapping[str, View]) -> list[str]:
    """Return the modules that build the views, for the fork server to import once for all its processes."""
    return sorted({getattr(view, "func", view).__module__ for view in views.values()})


def _start(
    views: dict[str, View], caption_field: CaptionField, metadata: tuple[str, ...], captions: Captions | None
) -> None:
    """Build a loader process's functions once."""
    global _loaded
    end_with_parent()
    torch.set_num_threads(1)
    _loaded = _load(views, caption_field, metadata, captions)


def _ready() -> None:
    """Do nothing: a process that answers has started."""


def _decode_many(batch: list[RawSample], thumbnails: bool) -> list[Sample]:
    return [sample for raw in batch for sample in _loaded.decode(raw, thumbnails)]
