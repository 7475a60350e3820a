"""Uids as a filter: kept or left out by a list, in every spelling, and by a file of the command line."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from coreset import uids
from coreset.cli.selection_options import conditions
from coreset.errors import InvalidInput, InvalidSpec
from coreset.selection.large import run
from coreset.selection.select import select
from coreset.spec.filters import MAX_LABELS
from coreset.spec.scores import Score
from coreset.spec.selection import SelectSpec
from coreset.storage.storage import Storage
from tests.coreset.selections import plan_of, write_parts

ROWS = 20
UIDS = [f"{i:032x}" for i in range(ROWS)]


def selected(storage: Storage, **filters: object) -> list[dict[str, object]]:
    plan = plan_of(1)
    same = {"random": 0.5, "cluster": 0, "metadata_lang": "en"}
    rows = [{"uid": uid, "caption": f"caption {i}", "clip_score": i / ROWS, **same} for i, uid in enumerate(UIDS)]
    write_parts(storage, plan, [rows])
    spec = SelectSpec.model_validate({"fraction": 1, "by": {Score.CLIP_SCORE: 1}, "filters": {"uid": filters}})
    found = select(storage, plan, "job", spec)
    return pq.read_table(found.files["subset.parquet"].uri).to_pylist()


@pytest.mark.parametrize("large", [False, True])
def test_uids_are_kept_or_left_out(large: bool, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:
        monkeypatch.setattr(run, "LARGE_POOL", 1)
    kept = [row["uid"] for row in selected(storage, any_of=UIDS[:5], none_of=[UIDS[2]])]
    assert kept == [UIDS[i] for i in (4, 3, 1, 0)]


def test_a_uid_counts_in_every_spelling(storage: Storage) -> None:
    spellings = ["0x1", "00000000-0000-0000-0000-000000000002", 3]
    assert [row["uid"] for row in selected(storage, any_of=spellings)] == [UIDS[3], UIDS[2], UIDS[1]]
    short, full = ({"k": 1, "filters": {"uid": {"any_of": [uid]}}} for uid in ("0x1", UIDS[1]))
    assert SelectSpec.model_validate(short) == SelectSpec.model_validate(full)


def test_the_subset_has_captions_and_metadata(storage: Storage) -> None:
    (row,) = selected(storage, any_of=[UIDS[7]])
    assert (row["caption"], row["metadata_lang"]) == ("caption 7", "en")


def test_uids_of_no_sample_leave_nothing(storage: Storage) -> None:
    with pytest.raises(InvalidSpec, match="0 pass uid"):
        selected(storage, any_of=["f" * 32])


@pytest.mark.parametrize(
    ("column", "wanted", "words"),
    [
        ("uid", {"any_of": ["no uid"]}, "'no uid' is no uid; expected up to 32 hex digits"),
        ("uid", {"min": 1}, "a filter on uid cannot have min; expected any_of, none_of"),
        ("shard", {"any_of": ["x"] * (MAX_LABELS + 1)}, "at most 10,000 labels, not 10,001"),
    ],
)
def test_lists_that_cannot_be_are_refused(column: str, wanted: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SelectSpec.model_validate({"k": 1, "filters": {column: wanted}})
    long = {"k": 1, "filters": {"uid": {"none_of": UIDS * (MAX_LABELS // ROWS + 1)}}}
    assert len(SelectSpec.model_validate(long).filters["uid"].none_of or []) > MAX_LABELS


def test_the_command_line_reads_a_file_of_uids(tmp_path: Path) -> None:
    np.save(tmp_path / "subset.npy", np.array([(0, 1), (0, 2)], uids.SUBSET_DTYPE))
    (tmp_path / "list").write_text(f"{UIDS[1]}\n{UIDS[2]}\n")
    pq.write_table(pa.table({"uid": UIDS[1:3]}), tmp_path / "subset.parquet")
    for name in ("subset.npy", "list", "subset.parquet"):
        assert conditions([f"uid.none_of={tmp_path / name}"]) == {"uid": {"none_of": UIDS[1:3]}}
    assert conditions(["uid.any_of=1,2"]) == {"uid": {"any_of": ["1", "2"]}}
    with pytest.raises(InvalidInput, match=r"nothing\.txt cannot be read"):
        conditions(["uid.any_of=nothing.txt"])
    pq.write_table(pa.table({"id": UIDS[1:3]}), tmp_path / "other.parquet")
    with pytest.raises(InvalidInput, match="not a Parquet file with a column uid"):
        conditions([f"uid.any_of={tmp_path / 'other.parquet'}"])
