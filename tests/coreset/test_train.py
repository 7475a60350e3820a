"""The filter for training on a coreset: which samples it yields, how often, and that its uids are a job's."""

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreset import train, uids
from coreset.errors import InvalidInput
from coreset_workers.data.decode import uid_of
from coreset_workers.data.tar import RawSample

UIDS = st.lists(st.integers(0, 2**128 - 1) | st.integers(0, 3) | st.integers(2**64, 2**64 + 3), max_size=30)


def subset(numbers: list[int]) -> Any:
    return np.array([divmod(number, 2**64) for number in numbers], dtype=uids.SUBSET_DTYPE)


@given(UIDS, UIDS)
def test_copies_are_counted(kept: list[int], asked: list[int]) -> None:
    copies = train.Copies(subset(kept))
    assert len(copies) == len(set(kept))
    assert [copies.of(f"{number:032x}") for number in kept + asked] == [kept.count(n) for n in kept + asked]


def test_a_stage_yields_each_sample_as_often_as_it_was_drawn(tmp_path: Path) -> None:
    drawn = [1, 1, 1, 2**100, 7]
    np.save(tmp_path / "subset.npy", subset(drawn))
    samples = [{"__key__": str(n), "json": json.dumps({"uid": f"{n:032x}"}).encode()} for n in (7, 5, 1, 2**100)]
    found = list(train.keep(str(tmp_path / "subset.npy"))(samples))
    assert [sample["__key__"] for sample in found] == ["7", "1", "1", "1", str(2**100)]
    assert len({id(sample) for sample in found}) == 5, "a later stage may change one copy"
    assert list(train.keep(subset(drawn))(samples)) == found


@pytest.mark.parametrize("caption_field", [None, "title"])
@pytest.mark.parametrize(
    "members",
    [
        {"jpg": b"1", "txt": b"a"},
        {"png": b"1", "webp": b"2", "txt": b"a", "json": b"{}"},
        {"png": b"1", "json": b'{"uid": "ABC", "title": "b"}'},
        {"png": b"1", "json": b'{"uid": "no number", "title": "b"}'},
        {"png": b"1", "txt": b"a", "json": b'{"title": 3}'},
        {"png": b"1", "txt": b"a", "json": b"[1"},
        {"txt": b"a", "json": b"[1]"},
    ],
)
def test_a_samples_uid_is_that_of_a_job(members: dict[str, bytes], caption_field: str | None) -> None:
    shuffled = dict(Random(0).sample(sorted(members.items()), len(members)))
    assert train.uid_of(shuffled, caption_field) == uid_of(RawSample("shard", "key", 0, members), caption_field)


def test_a_file_that_is_no_subset_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "scores.npy", np.zeros(3))
    with pytest.raises(InvalidInput, match=r"scores\.npy holds float64"):
        train.keep(tmp_path / "scores.npy")
    with pytest.raises(InvalidInput, match=r"gone\.npy cannot be read: No such file"):
        train.keep(tmp_path / "gone.npy")


def test_the_command_wants_a_subset(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["coreset.train", "--help"])
    with pytest.raises(SystemExit, match="2"):
        train.main()
    assert capsys.readouterr().err.startswith("usage: python -m coreset.train SUBSET.NPY")
