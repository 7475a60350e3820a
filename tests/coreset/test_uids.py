"""Uids and DataComp's subset array."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreset.errors import InvalidInput
from coreset.uids import SUBSET_DTYPE, from_subset, normalise, of_content, random_score, read_uids
from tests.coreset.subsets import to_subset

UIDS = st.integers(0, 2**128 - 1).map(lambda number: f"{number:032x}")


@given(st.lists(UIDS, unique=True))
def test_a_subset_is_sorted_and_comes_back(uids: list[str]) -> None:
    subset = to_subset(uids)
    assert subset.dtype == SUBSET_DTYPE
    assert subset.shape == (len(uids),)
    assert from_subset(subset) == sorted(uids)


def test_a_subset_holds_the_halves_as_datacomp_does() -> None:
    subset = to_subset(["00000000000000010000000000000002"])
    expected = np.array([(int("0000000000000001", 16), int("0000000000000002", 16))], np.dtype("u8,u8"))
    assert np.array_equal(subset, expected)


@pytest.mark.parametrize(
    ("uid", "expected"),
    [
        ("AB" * 16, "ab" * 16),
        ("f", "0" * 31 + "f"),
        ("", None),
        ("g" * 32, None),
        ("1" + "0" * 32, None),
        ("0" * 40, "0" * 32),
        ("1" + "0" * 39, None),
        ("0x" + "a" * 30, "00" + "a" * 30),
        (" " + "0" * 31 + "\n", "0" * 32),
        ("550E8400-e29b-41d4-a716-446655440000", "550e8400e29b41d4a716446655440000"),
        ("550e8400-e29b41d4-a716-446655440000", None),
        ("0" * 201, None),
        ("\uff10" * 32, None),
        (7, "7".zfill(32)),
        (2**128 - 1, "f" * 32),
        (2**128, None),
        (-1, None),
        (True, None),
        (1.0, None),
        (None, None),
    ],
)
def test_normalise(uid: object, expected: str | None) -> None:
    assert normalise(uid) == expected


@given(UIDS)
def test_normalise_keeps_what_is_normal(uid: str) -> None:
    assert normalise(uid) == uid


@given(st.binary(max_size=8), st.binary(max_size=8))
def test_a_uid_by_content_is_of_128_bits_and_differs_with_image_and_caption(image: bytes, caption: bytes) -> None:
    uid = of_content(image, caption)
    assert normalise(uid) == uid
    assert uid == hashlib.sha256(image + b"\0" + caption).hexdigest()[:32]
    assert uid not in (of_content(image + b"x", caption), of_content(image, caption + b"x"))


@given(UIDS, st.integers(0, 100))
def test_the_random_score_is_a_function_of_uid_and_seed(uid: str, seed: int) -> None:
    assert 0 <= random_score(uid, seed) < 1
    assert random_score(uid, seed) == random_score(uid, seed)
    assert random_score(uid, seed) != random_score(uid, seed + 1)


def test_uids_are_read_from_datacomps_file_and_from_text(tmp_path: Path) -> None:
    uids = [f"{number:032x}" for number in (3, 2**70, 2**127)]
    np.save(tmp_path / "set.npy", to_subset(uids))
    (tmp_path / "set.txt").write_text("3\n\n  " + "\n".join(uids[1:]).upper() + "\n")
    assert read_uids(tmp_path / "set.npy") == uids
    assert read_uids(tmp_path / "set.txt") == uids


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.txt", None, "No such file"),
        ("empty.txt", b"\n", "holds no uids"),
        ("other.txt", b"1\nxyz\n", "line 2: 'xyz' is not a uid"),
        ("noise.txt", b"\xff\xfe\x00", "neither text"),
        ("noise.npy", b"noise", "not a .npy file"),
        ("short.npy", b"", "neither text nor"),
    ],
)
def test_a_file_without_uids_is_refused(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=words):
        read_uids(tmp_path / name)


def test_an_array_of_other_numbers_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", np.zeros(3))
    with pytest.raises(InvalidInput, match="not a row of u8,u8"):
        read_uids(tmp_path / "set.npy")
