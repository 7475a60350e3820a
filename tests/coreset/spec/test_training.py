"""The spec of a run that a job trains: one source of checkpoints, and nothing that names what does not exist yet."""

from typing import Any

import pytest
from pydantic import ValidationError

from coreset.access.locations import Location, Locations
from coreset.errors import LocationForbidden
from coreset.queue.job_store import fingerprint
from coreset.queue.progress import progress_of
from coreset.schemas.job import JobStatus
from coreset.spec.job import JobSpec

BASE: dict[str, Any] = {"pool": {"shards": ["/a.tar"]}, "checkpoints": {"train": {}}, "select": {"fraction": 0.3}}


def test_three_lines_are_a_job() -> None:
    spec = JobSpec.model_validate(BASE)
    assert spec.train is not None
    assert spec.train.checkpoints == 5
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("changes", "way_out"),
    [
        ({"checkpoints": {}}, "exactly one of `run`"),
        ({"checkpoints": {"train": {}, "run": "logs"}}, "exactly one of `run`"),
        ({"checkpoints": {"train": {}, "files": ["a.pt"]}}, "exactly one of `run`"),
        ({"checkpoints": {"train": {}, "last": 3}}, r"train\.checkpoints"),
        ({"checkpoints": {"train": {}, "horizon": 300}}, "give `auto` or `last`"),
        ({"checkpoints": {"train": {"uri": "logs"}}}, "Extra inputs"),
        ({"checkpoints": {"train": {"samples": 3}}}, "greater than or equal to 32"),
        ({"checkpoints": {"train": {"held_out": 1}}}, "less than or equal to 0.5"),
        ({"checkpoints": {"train": {"lr": 0}}}, "greater than 0"),
        ({"checkpoints": {"train": {"samples_seen": 10**12}}}, "less than or equal to"),
        ({"model": {"name": "ViT-B-32"}}, r"checkpoints\.train\.model"),
    ],
)
def test_nonsense_is_refused_with_a_way_out(changes: dict[str, Any], way_out: str) -> None:
    with pytest.raises(ValidationError, match=way_out):
        JobSpec.model_validate(BASE | changes)


def test_specs_without_the_field_are_stored_as_before() -> None:
    spec = JobSpec.model_validate(
        BASE | {"checkpoints": {"run": "/logs"}, "clip_model": {"name": "a", "pretrained": "b"}}
    )
    text = spec.model_dump_json()
    assert all(f'"{field}":' not in text for field in ("train", "keep", "checkpoint"))
    assert fingerprint(spec) != fingerprint(JobSpec.model_validate(BASE))


def test_training_is_half_of_the_jobs_progress() -> None:
    record = {"trains": "1", "prepare_fraction": "0.4"}
    assert progress_of(JobStatus.PREPARING, record, [], [], 0.0).fraction == pytest.approx(0.2)
    both = record | {"evaluates": "1"}
    assert progress_of(JobStatus.PREPARING, both, [], [], 0.0).fraction == pytest.approx(0.12)


def test_runs_of_the_storage_may_be_named_where_other_folders_may_not() -> None:
    only_pools = Locations.parse("/pools").with_folder("/data/runs")
    assert only_pools.check("/data/runs/1/checkpoints") == Location("file", "", "/data/runs/1/checkpoints")
    remote = Locations(local=False).with_folder("/data/runs")
    remote.check("/data/runs/1")
    remote.check("s3://bucket/pool")
    for locations in (only_pools, remote):
        with pytest.raises(LocationForbidden):
            locations.check("/data/jobs/1")
    assert Locations().with_folder("memory://runs") == Locations()
