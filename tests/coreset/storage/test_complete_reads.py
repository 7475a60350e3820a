"""What a file system sends in pieces of any size arrives whole, or as an error."""

import io
import math
from collections.abc import Callable
from itertools import cycle
from typing import Any

import pytest
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from hypothesis import given
from hypothesis import strategies as st

from coreset.storage.complete_reads import MAX_EMPTY_ANSWERS, with_complete_reads
from coreset.storage.storage import Storage

SIZE = 1000
DATA = bytes(i % 251 for i in range(SIZE))

Share = Callable[[], float]


class _StingyFile(AbstractBufferedFile):
    def _fetch_range(self, start: int, end: int) -> bytes:
        return DATA[start : start + math.ceil((end - start) * self.fs.storage_options["share"]())]


class _Stingy(AbstractFileSystem):
    """Has one file, and sends of each range the first bytes: the share that `share` says each time."""

    protocol = "stingy"
    cachable = False

    def _open(self, path: str, mode: str = "rb", block_size: Any = None, **options: Any) -> _StingyFile:
        return _StingyFile(self, path, mode, block_size=50, size=SIZE, cache_type=self.storage_options["cache"])


def opened(share: Share, cache: str) -> Any:
    return with_complete_reads(_Stingy(share=share, cache=cache)).open("file")


places = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, 200)), max_size=8)
shares = st.lists(st.floats(0.01, 1), min_size=1, max_size=5)


@given(places=places, shares=shares, cache=st.sampled_from(["readahead", "bytes", "blockcache", "first", "none"]))
def test_each_read_brings_the_bytes_of_its_place(
    places: list[tuple[int, int]], shares: list[float], cache: str
) -> None:
    turn = cycle(shares)
    with opened(lambda: next(turn), cache) as file:
        for start, length in places:
            file.seek(start)
            assert file.read(length) == DATA[start : start + length]


@given(empty=st.integers(0, MAX_EMPTY_ANSWERS - 1))
def test_a_few_empty_answers_are_no_end(empty: int) -> None:
    answers = iter([0.5, *[0.0] * empty, 1.0])
    with opened(lambda: next(answers), "readahead") as file:
        assert file.read() == DATA


def test_a_storage_that_sends_no_more_is_an_error() -> None:
    answers = iter([0.5, *[0.0] * MAX_EMPTY_ANSWERS])
    file = opened(lambda: next(answers), "readahead")
    with pytest.raises(OSError, match="sends 500 of the 1000 bytes from 0 on, and no more"):
        file.read()


def test_files_without_ranges_are_left_as_they_are() -> None:
    storage = Storage("memory://whole-reads")
    storage.write("a", DATA)
    with storage.open("a") as file:
        assert isinstance(file, io.BytesIO)
        assert file.read() == DATA
