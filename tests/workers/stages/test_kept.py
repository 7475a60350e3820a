"""What a job keeps beside its scores: row by row as in the part, from the passes that it makes anyway."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from coreset.schemas.manifest import ShardSummary
from coreset.schemas.plan import Plan
from coreset.spec.job import JobSpec
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage
from coreset_workers.data.loader import Loader
from coreset_workers.outputs.kept import ShardOptions, has_kept
from coreset_workers.stages.score import score_shard
from coreset_workers.stages.scorer import Scorer

SHARD = 1


@pytest.fixture(scope="module")
def kept(plan: Plan, scorer: Scorer, loader: Loader, summaries: list[ShardSummary]) -> ShardSummary:
    """The summary of a shard that was scored without keeping anything, and then again."""
    assert summaries[SHARD].kept == {}
    options = ShardOptions(keep=("embeddings", "losses"))
    return score_shard(scorer, loader, plan.shards[SHARD], lambda fraction: None, options)


def table(storage: Storage, plan: Plan, kind: str) -> Any:
    return pq.read_table(storage.path(PlanFolder(plan.id).kept(SHARD, kind)))


def matrix(rows: Any, name: str) -> np.ndarray:
    return np.array(rows[name].drop_null().combine_chunks().flatten()).reshape(
        rows[name].length() - rows[name].null_count, -1
    )


def test_keeping_changes_no_byte_of_the_part(kept: ShardSummary, summaries: list[ShardSummary]) -> None:
    assert kept.part.sha256 == summaries[SHARD].part.sha256


def test_rows_are_those_of_the_part_and_bad_samples_have_none(
    kept: ShardSummary, plan: Plan, results: Storage, parts: list[Any]
) -> None:
    bad = [status != "ok" for status in parts[SHARD]["status"].to_pylist()]
    assert any(bad)
    for kind, file in kept.kept.items():
        rows = table(results, plan, kind)
        assert rows["uid"].to_pylist() == parts[SHARD]["uid"].to_pylist()
        assert file.rows == len(rows)
        for name in rows.column_names[1:]:
            assert [value is None for value in rows[name].to_pylist()] == bad


def test_embeddings_are_those_of_clip_score(kept: ShardSummary, plan: Plan, results: Storage, parts: list[Any]) -> None:
    rows = table(results, plan, "embeddings")
    image, text = matrix(rows, "image"), matrix(rows, "text")
    assert image.dtype == np.float16
    assert np.linalg.norm(image.astype(float), axis=1) == pytest.approx(1, abs=2e-3)
    cosines = (image.astype(float) * text.astype(float)).sum(1)
    assert cosines == pytest.approx(np.array(parts[SHARD]["clip_score"].drop_null()), abs=2e-3)


def test_losses_and_cosines_are_those_of_every_checkpoint(
    kept: ShardSummary, plan: Plan, results: Storage, parts: list[Any]
) -> None:
    rows = table(results, plan, "losses")
    losses, cosines = matrix(rows, "loss_by_checkpoint"), matrix(rows, "cosine_by_checkpoint")
    assert losses.shape == cosines.shape == (len(losses), len(plan.checkpoints))
    assert -losses.mean(1) == pytest.approx(np.array(parts[SHARD]["loss"].drop_null()), rel=1e-5)
    assert cosines[:, -1] == pytest.approx(np.array(parts[SHARD]["clip_score"].drop_null()), rel=1e-5)


def test_a_damaged_or_missing_file_is_not_there(kept: ShardSummary, plan: Plan, results: Storage) -> None:
    assert has_kept(results, plan, kept, ("embeddings", "losses"))
    assert has_kept(results, plan, kept, ())
    path = Path(results.path(PlanFolder(plan.id).kept(SHARD, "embeddings")))
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    try:
        path.write_bytes(data)
        assert not has_kept(results, plan, kept, ("embeddings",))
        assert has_kept(results, plan, kept, ("losses",))
        path.unlink()
        assert not has_kept(results, plan, kept, ("embeddings",))
    finally:
        data[50] ^= 1
        path.write_bytes(data)


def test_what_another_job_keeps_stays_when_a_shard_is_scored_again() -> None:
    assert ShardOptions(True, ("losses",)).with_kept(["embeddings"]) == ShardOptions(True, ("embeddings", "losses"))


@pytest.mark.parametrize(
    ("changes", "way_out"),
    [
        ({"scores": ["tracin"], "keep": ["embeddings"], "select": {"k": 1, "by": "tracin"}}, "add clip_score"),
        ({"scores": ["clip_score"], "keep": ["losses"], "select": {"k": 1, "by": "clip_score"}}, "add loss"),
        ({"keep": ["gradients"]}, "embeddings"),
    ],
)
def test_what_no_pass_computes_cannot_be_kept(changes: dict[str, Any], way_out: str) -> None:
    base = {"pool": {"shards": ["a.tar"]}, "checkpoints": {"run": "logs"}, "select": {"k": 1}}
    with pytest.raises(ValidationError, match=way_out):
        JobSpec.model_validate(base | changes)


def test_losses_bring_the_score_that_they_belong_to_and_an_empty_list_leaves_the_spec_as_it_was() -> None:
    base = {"pool": {"shards": ["a.tar"]}, "checkpoints": {"run": "logs"}, "select": {"k": 1}}
    assert "loss" in JobSpec.model_validate(base | {"keep": ["losses"]}).scores
    plain, empty = JobSpec.model_validate(base), JobSpec.model_validate(base | {"keep": []})
    assert plain.model_dump_json() == empty.model_dump_json()
    assert "keep" not in plain.model_dump_json()
