"""What the doctor finds of jobs that are not as they should be, and that mending them is enough."""

import pytest
from redis import Redis
from rq import Worker
from typer.testing import CliRunner

from coreset.cli import app as cli
from coreset.errors import NotFound
from coreset.queue.job_store import JobStore
from coreset.queue.task_queue import TaskQueue
from coreset.schemas.job import JobStatus
from coreset.schemas.manifest import ShardSummary
from coreset.spec.job import JobSpec
from coreset.spec.scores import Score
from coreset.storage.storage import Storage
from coreset_service.maintenance.doctor import Doctor
from tests.coreset.selections import plan_of

SHARDS = 3
PLAN = plan_of(SHARDS, scores=[Score.RANDOM])
PARTS = f"plans/{PLAN.id}/parts"


@pytest.fixture(autouse=True)
def worker(redis: Redis) -> Worker:
    """A registered worker, whose absence would be a finding of its own."""
    registered = Worker(["gpu", "cpu"], connection=redis)
    registered.register_birth()
    return registered


@pytest.fixture
def doctor(store: JobStore, queue: TaskQueue, storage: Storage) -> Doctor:
    return Doctor(store, queue, storage)


@pytest.fixture
def job(store: JobStore, spec: JobSpec) -> str:
    return store.create(spec, "job1").id


@pytest.fixture
def scoring(job: str, store: JobStore, queue: TaskQueue, storage: Storage) -> str:
    storage.write(f"plans/{PLAN.id}/plan.json", PLAN.model_dump_json().encode())
    store.transition(job, JobStatus.PREPARING)
    store.set_plan(job, PLAN.id, SHARDS)
    queue.enqueue_scoring(job, PLAN.tasks())
    store.transition(job, JobStatus.SCORING)
    return job


def codes(doctor: Doctor, job: str) -> list[str]:
    return [finding.code for finding in doctor.diagnose(job).findings]


def score(shard: int, job: str, store: JobStore, storage: Storage) -> None:
    part = storage.write(f"{PARTS}/{PLAN.part_name(shard)}", b"rows", rows=1)
    summary = ShardSummary(
        shard=shard, uri=f"/pool/{shard}.tar", part=part, read=1, scored=1, bad={}, seconds=1.0, device="cpu"
    )
    storage.write(f"{PARTS}/{shard:06d}.json", summary.model_dump_json().encode())
    store.shard_done(job, summary)


def test_a_job_that_is_well_has_no_findings(scoring: str, doctor: Doctor, store: JobStore, storage: Storage) -> None:
    score(0, scoring, store, storage)
    found = doctor.diagnose(scoring)
    assert (found.findings, found.shards, found.parts) == ([], SHARDS, 1)
    assert found.tasks == {"waiting": 3, "deferred": 2, "gone": 1}


def test_a_job_that_is_not_there_is_not_found(doctor: Doctor) -> None:
    with pytest.raises(NotFound):
        doctor.diagnose("job0")


def test_a_job_without_its_first_task_gets_it(job: str, doctor: Doctor, queue: TaskQueue) -> None:
    assert codes(doctor, job) == ["prepare-missing"]
    assert queue.depth()["gpu"] == 0, "looking changes nothing"
    doctor.mend(job)
    assert queue.depth()["gpu"] == 1
    assert codes(doctor, job) == []


def test_a_lost_task_comes_back(scoring: str, doctor: Doctor, redis: Redis) -> None:
    lost = redis.lpop("rq:queue:gpu")
    found = doctor.mend(scoring).findings
    assert [finding.code for finding in found] == ["lost-tasks"]
    assert lost.decode() in found[0].what
    assert redis.lpos("rq:queue:gpu", lost) == 0
    assert codes(doctor, scoring) == []


def test_tasks_of_an_ended_job_are_taken_off(scoring: str, doctor: Doctor, store: JobStore, queue: TaskQueue) -> None:
    store.transition(scoring, JobStatus.FAILED)
    assert codes(doctor, scoring) == ["orphaned-tasks"]
    doctor.mend(scoring)
    assert codes(doctor, scoring) == []
    assert queue.census(scoring)["gone"] == [*queue.census(scoring)["gone"]]
    assert sum(map(len, queue.census(scoring).values())) == len(queue.census(scoring)["gone"])


def test_a_cancel_that_nobody_ended_is_ended(scoring: str, doctor: Doctor, store: JobStore) -> None:
    store.request_cancel(scoring)
    assert codes(doctor, scoring) == ["not-settled"]
    doctor.mend(scoring)
    assert store.status(scoring) is JobStatus.CANCELLED


def test_a_part_that_is_gone_is_named_with_the_way_out(
    scoring: str, doctor: Doctor, store: JobStore, storage: Storage
) -> None:
    score(2, scoring, store, storage)
    storage.delete(f"{PARTS}/000002.parquet")
    found = doctor.mend(scoring).findings
    assert [(finding.code, finding.mendable) for finding in found] == [("missing-parts", False)]
    assert found[0].what.endswith(": 2")
    assert "post the same spec again" in found[0].cure


def test_half_written_files_are_swept_when_the_job_has_ended(
    scoring: str, doctor: Doctor, store: JobStore, storage: Storage
) -> None:
    storage.write(f"{PARTS}/.000001.parquet.0f", b"half")
    assert [finding.mendable for finding in doctor.mend(scoring).findings] == [False], "it may be written now"
    assert storage.exists(f"{PARTS}/.000001.parquet.0f")
    for status in (JobStatus.REDUCING, JobStatus.SUCCEEDED):
        store.transition(scoring, status)
    assert "half-written" in codes(doctor, scoring)
    doctor.mend(scoring)
    assert not storage.exists(f"{PARTS}/.000001.parquet.0f")
    assert codes(doctor, scoring) == []


def test_the_command_says_what_is_wrong_and_whether_it_stays(url: str, job: str, queue: TaskQueue) -> None:
    queue.cancel_tasks(job)  # the service's reconciler may have put it on the queue
    run = lambda *more: CliRunner().invoke(cli, ["doctor", *more], env={"CORESET_URL": url, "COLUMNS": "200"})  # noqa: E731
    answer = run(job, "--mend")
    assert answer.exit_code == 0, answer.output
    assert "repaired: the job is queued, but its first task is not (put on the queue)" in answer.output
    assert "no fault found" in run(job).output
    assert run("job0").exit_code == 2


def test_a_missing_worker_is_the_first_finding(scoring: str, doctor: Doctor, worker: Worker, redis: Redis) -> None:
    """Issue 18, point 18: every worker had died at its start, and the doctor found nothing."""
    worker.register_death()
    redis.lpop("rq:queue:gpu")
    assert codes(doctor, scoring) == ["no-workers", "lost-tasks"]
    doctor.store.transition(scoring, JobStatus.FAILED)
    assert "no-workers" not in codes(doctor, scoring), "an ended job needs none"
