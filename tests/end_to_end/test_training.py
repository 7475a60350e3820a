"""A job that trains its own run: kill -9 changes no byte of the run nor of a score, and equal jobs train once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coreset.client import Client
from coreset.local.stack import LocalStack
from coreset.schemas.job import Job, JobStatus
from coreset.spec.job import JobSpec
from coreset.storage.layout import PlanFolder, RunFolder
from coreset.storage.storage import Storage
from coreset_workers.local.job import run_job
from tests.conftest import TINY_MODEL
from tests.end_to_end.conftest import kill_worker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

Until = Callable[[Callable[[], object]], None]


@pytest.fixture(scope="module")
def training_spec(tiny_pool: Path) -> dict[str, Any]:
    """A spec of shards alone, whose training takes seconds, so that it can be disturbed.

    Its target is a shard of the pool: noise teaches nothing about other noise, and such a run is refused.
    """
    train = {"model": {"config": TINY_MODEL}, "samples_seen": 16 * 128, "batch_size": 16, "checkpoints": 2}
    return {
        "pool": {"shards": [str(tiny_pool / "{000000..000005}.tar")]},
        "checkpoints": {"train": train},
        "target": {"pool": {"shards": [str(tiny_pool / "000000.tar")]}, "size": 24},
        "reference": {"size": 24},
        "scores": ["tracin", "clip_score", "random"],
        "select": {"k": 40, "by": "tracin"},
        "thumbnails": False,
    }


def succeeded(client: Client, job_id: str) -> Job:
    job = client.wait(job_id, timeout=600)
    assert job.status is JobStatus.SUCCEEDED, job.reason
    return job


def intervals_done(runs: Path) -> int:
    """Return how far the only training in progress is."""
    for path in runs.glob("*/work/progress.json"):
        return len(json.loads(path.read_bytes())["losses"]) - 1
    return 0


def content(folder: Path, *leave_out: str) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in leave_out)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.parent.name != "jobs"}


def test_workers_killed_while_training_and_while_scoring_change_no_byte(
    stack: LocalStack, client: Client, training_spec: dict[str, Any], until: Until, tmp_path: Path
) -> None:
    runs = Path(stack.storage) / "runs"
    job = client.submit(training_spec)
    for reached in (3, 12):
        until(lambda: intervals_done(runs) >= reached)  # noqa: B023
        assert "training a model: step" in client.get(job.id).progress.stage
        kill_worker(stack)
    until(lambda: client.get(job.id).progress.shards.done)
    kill_worker(stack)
    disturbed = succeeded(client, job.id)
    manifest = client.result(job.id)
    assert disturbed.failed_shards == []
    assert manifest.training is not None
    run = Path(stack.storage) / RunFolder(manifest.training.id).root
    parts = Path(stack.storage) / PlanFolder(manifest.plan_id).parts
    summaries = [f"{shard:06d}.json" for shard in range(6)]
    trained, scored = content(run, "run.json"), content(parts, *summaries)
    assert [c.step.value for c in manifest.checkpoints] == manifest.training.steps
    assert set(trained) >= {"params.txt", "open_clip_config.json"}

    again = succeeded(client, client.submit(training_spec).id)  # uses the run and the parts
    assert again.plan_id == disturbed.plan_id
    assert content(run, "run.json") == trained

    # Undisturbed, in this process: the plan has another id, as its checkpoints have another folder.
    alone = run_job(JobSpec.model_validate(training_spec), Storage(str(tmp_path)), lambda job: None, 0)
    assert alone.training is not None
    assert content(tmp_path / RunFolder(alone.training.id).root, "run.json") == trained
    assert content(tmp_path / PlanFolder(alone.plan_id).parts, *summaries) == scored

    named = {**training_spec, "checkpoints": {"run": manifest.training.run}}
    assert succeeded(client, client.submit(named).id).plan_id == disturbed.plan_id


def test_a_training_stops_at_a_cancel_and_goes_with_its_last_job(
    stack: LocalStack, client: Client, training_spec: dict[str, Any], until: Until
) -> None:
    train = training_spec["checkpoints"]["train"] | {"seed": 7}
    spec = {**training_spec, "checkpoints": {"train": train}}
    runs = Path(stack.storage) / "runs"
    before = {path.name for path in runs.iterdir()}
    job = client.submit(spec)
    until(lambda: intervals_done(runs) >= 2)
    client.cancel(job.id)
    assert client.wait(job.id, timeout=60).status is JobStatus.CANCELLED
    assert len({path.name for path in runs.iterdir()} - before) == 1  # a job with the same spec would go on from there
    client.delete(job.id)
    until(lambda: {path.name for path in runs.iterdir()} == before)
