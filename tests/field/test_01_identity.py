"""A sample's uid: of its content where it has none, of every spelling of 128 bits, and no duplicate without a count."""

from pathlib import Path

import pytest

from coreset.cli.tables import samples_text
from coreset.queue.progress import progress_of
from coreset.schemas.job import JobStatus
from coreset.schemas.part import UidSource
from coreset.selection.select import count_samples, select
from coreset.spec.selection import SelectSpec
from coreset.storage.storage import Storage
from coreset.uids import from_subset
from coreset_workers.outputs.shards import write_shards
from coreset_workers.stages.finish import pool_warnings
from coreset_workers.stages.merge import Counts, merge_counts
from coreset_workers.stages.preflight import _first_samples
from tests.field.pools import read, sample, scored, write_tar
from tests.fuzz.shards import VIEWS

UUID = "550e8400-e29b-41d4-a716-446655440000"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "storage"))


def write_twins(folder: Path, second: int) -> None:
    """Two outputs of img2dataset: equal shard names and keys, no uid. `second` is the first shade of the second's."""
    for name, first in (("cc3m", 0), ("cc12m", second)):
        members = [m for i in range(24) for m in sample(f"{i:09d}", first + i, b"a caption", url=f"{i}")]
        write_tar(folder / name / "00000.tar", members)


def counts_of(plan, summaries) -> Counts:
    return merge_counts([Counts.of(plan.shards[s.shard], s) for s in summaries])


def test_two_outputs_of_img2dataset_in_one_pool_keep_all_samples(tmp_path: Path, storage: Storage) -> None:
    write_twins(tmp_path, second=100)
    plan, summaries = scored(storage, str(tmp_path / "{cc3m,cc12m}/00000.tar"))
    selection = select(storage, plan, "job", SelectSpec(fraction=1, by={"random": 1.0}))
    assert (selection.k, selection.rankable, selection.duplicates) == (48, 48, 0)
    assert pool_warnings(counts_of(plan, summaries), 48 - count_samples(storage, plan)) == []


def test_exact_copies_are_counted_wherever_a_count_stands(tmp_path: Path, storage: Storage) -> None:
    write_twins(tmp_path, second=4)
    plan, summaries = scored(storage, str(tmp_path / "{cc3m,cc12m}/00000.tar"))
    selection = select(storage, plan, "job", SelectSpec(fraction=1, by={"random": 1.0}))
    assert (selection.rankable, selection.duplicates) == (28, 20)
    counts = counts_of(plan, summaries)
    duplicates = counts.scored - count_samples(storage, plan)
    (warning,) = pool_warnings(counts, duplicates)
    assert warning.startswith("20 of 48 scored samples are duplicates: ")
    record = {"samples_read": "48", "samples_scored": "48", "samples_duplicates": "20"}
    assert progress_of(JobStatus.SUCCEEDED, record, [], [], 0.0).samples.duplicates == 20
    assert samples_text(48, 48, duplicates, {}) == "48 scored of 48, 20 duplicates"


def test_the_check_counts_the_duplicates_among_the_samples_that_it_reads(tmp_path: Path, storage: Storage) -> None:
    write_tar(tmp_path / "0.tar", [m for i in range(6) for m in sample(f"{i}", i % 4)])
    plan, _ = scored(storage, str(tmp_path / "0.tar"))
    first, (warning,) = _first_samples(plan.shards[0], None, VIEWS)
    assert (first.read, first.duplicates) == (6, 2)
    assert warning.startswith("2 of the first 6 samples of ")


@pytest.mark.parametrize("other", [{"caption": b"another"}, {"shade": 9}])
def test_the_uid_depends_on_image_and_caption_alone(tmp_path: Path, other: dict) -> None:
    same = {"shade": 1, "caption": b"a caption"}
    members = [*sample("a", **same, url="x"), *sample("b", **same, url="y"), *sample("c", **(same | other))]
    (a, b, c), _ = read(write_tar(tmp_path / "0.tar", members))
    assert a.uid == b.uid != c.uid
    assert a.uid_source is UidSource.CONTENT
    (moved, *_), _ = read(write_tar(tmp_path / "elsewhere/7.tar", sample("z", **same)))
    assert moved.uid == a.uid


def test_captions_of_a_json_field_count_in_the_uid(tmp_path: Path) -> None:
    members = [m for i in range(3) for m in sample(f"{i}", 1, b"the same", text=f"caption {i}")]
    path = write_tar(tmp_path / "0.tar", members)
    assert len({one.uid for one in read(path)[0]}) == 1
    assert len({one.uid for one in read(path, "text")[0]}) == 3


@pytest.mark.parametrize(
    ("given", "uid"),
    [(UUID, UUID.replace("-", "")), (255, "ff".zfill(32)), ("0" * 8 + "ab" * 16, "ab" * 16), (" f ", "f".zfill(32))],
)
def test_every_spelling_of_128_bits_is_taken(tmp_path: Path, given: object, uid: str) -> None:
    (one,), reader = read(write_tar(tmp_path / "0.tar", sample("a", 1, uid=given)))
    assert (one.uid, one.uid_source) == (uid, UidSource.JSON)
    assert reader.oddities.as_dict() == {}


@pytest.mark.parametrize("given", ["a" * 40, 2**128, -1, "row 7", 1.5])
def test_a_uid_that_is_not_of_128_bits_is_counted_with_an_example(tmp_path: Path, given: object) -> None:
    path = write_tar(tmp_path / "0.tar", [*sample("a", 1, uid=given), *sample("b", 2, uid=given)])
    found, reader = read(path)
    assert {one.uid_source for one in found} == {UidSource.CONTENT}
    (warning,) = reader.oddities.warnings()
    assert warning.startswith(f"2 samples have a uid that is not a 128-bit number, such as {given!r} of {path}: a: ")


def test_shards_of_a_selection_give_the_same_uids_when_they_are_scored_again(tmp_path: Path, storage: Storage) -> None:
    members = [m for i in range(30) for m in sample(f"{i}", i, b"caption %d" % i, uid=UUID if i == 3 else None)]
    write_tar(tmp_path / "0.tar", members)
    plan, _ = scored(storage, str(tmp_path / "0.tar"))
    selection = select(storage, plan, "job", SelectSpec(k=20, by={"random": 1.0}))
    files = write_shards(storage, plan, selection, lambda _: None)
    again, _ = read(Path(files["shards/00000000.tar"].uri))
    import numpy as np

    assert sorted(one.uid for one in again) == from_subset(np.load(selection.files["subset.npy"].uri))
    assert {one.key for one in again} == {one.uid for one in again}
