"""The real loader, scorer and storage with a clock in each stage."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, TypeVar

from torch import Tensor

from coreset.storage.storage import File, Storage
from coreset_workers.data.decode import Sample, ViewFunctions, decode
from coreset_workers.data.loader import BLOCK_SAMPLES, Block, Loader, View
from coreset_workers.data.tar import RawSample
from coreset_workers.stages.scorer import Beat, Scorer

T = TypeVar("T")


@dataclass
class Clock:
    """Seconds by stage: of the processor in the loader's stages, of the wall in the worker's."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def call(self, stage: str, work: Callable[[], T], now: Callable[[], float] = time.perf_counter) -> T:
        started = now()
        try:
            return work()
        finally:
            self.seconds[stage] += now() - started

    def each(self, stage: str, items: Iterable[T], now: Callable[[], float] = time.perf_counter) -> Iterator[T]:
        """Yield the items, and count the time that making them takes."""
        source, end = iter(items), object()
        while (item := self.call(stage, lambda: next(source, end), now)) is not end:
            yield item  # pyright: ignore[reportReturnType]


class WatchedLoader(Loader):
    """Counts `wait`, and `read`; without processes also `decode` (bytes to RGB), `resize` (and crop), `tokenize`."""

    def __init__(self, views: dict[str, View], processes: int, clock: Clock) -> None:
        super().__init__(views, None, processes)
        self.clock = clock
        made = {name: view() for name, view in views.items()}
        self._timed = None if processes else {name: self._watched(functions) for name, functions in made.items()}

    def _watched(self, functions: ViewFunctions) -> ViewFunctions:
        return ViewFunctions(
            lambda image: self.clock.call("resize", lambda: functions.image(image), time.thread_time),
            lambda caption: self.clock.call("tokenize", lambda: functions.tokens(caption), time.thread_time),
        )

    def blocks(
        self, raw: Iterable[RawSample], batch: int, most: int = BLOCK_SAMPLES, thumbnails: bool = False
    ) -> Iterator[Block]:
        read = self.clock.each("read", raw, time.thread_time)
        return self.clock.each("wait", super().blocks(read, batch, most, thumbnails))

    def decode(self, raw: Iterable[RawSample], thumbnails: bool = False) -> Iterator[Sample]:
        if self._timed is None:
            yield from super().decode(raw, thumbnails)
            return
        inner = ("resize", "tokenize")
        for sample in raw:
            before = sum(self.clock.seconds[stage] for stage in inner)
            started = time.thread_time()
            found = decode(sample, None, self._timed, thumbnails=thumbnails)
            inside = sum(self.clock.seconds[stage] for stage in inner) - before
            self.clock.seconds["decode"] += time.thread_time() - started - inside
            yield found


class WatchedScorer(Scorer):
    """Counts `forward`."""

    clock = Clock()

    def score(self, block: Block, beat: Beat) -> dict[str, Tensor]:
        return self.clock.call("forward", lambda: super(WatchedScorer, self).score(block, beat))


class WatchedStorage(Storage):
    """Counts `write`: the table to Parquet, its hash, and the rename."""

    clock = Clock()

    def write_with(self, name: str, fill: Callable[[BinaryIO], object], rows: int | None = None) -> File:
        return self.clock.call("write", lambda: super(WatchedStorage, self).write_with(name, fill, rows))
