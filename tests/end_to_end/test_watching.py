"""What an operator sees of real jobs: /metrics, and one request's id in every log."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from coreset.client import Client
from coreset.local.stack import LocalStack
from coreset.schemas.job import Job, JobStatus

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SHARDS = 6
Until = Callable[[Callable[[], object]], None]
Values = dict[tuple[str, str], float]


def scrape(client: Client) -> Values:
    """Return the values of /metrics by name and label values, in the order of the labels."""
    text = httpx.get(f"{client.url}/metrics").text
    families = text_string_to_metric_families(text)
    return {(s.name, " ".join(s.labels.values())): s.value for family in families for s in family.samples}


def grown(before: Values, after: Values) -> Values:
    return {key: value - before.get(key, 0.0) for key, value in after.items()}


def logged(stack: LocalStack, request_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of a request by process. Every line of every log must be JSON."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in (Path(stack.data) / "logs").glob("*.log"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found[path.stem] = [line for line in lines if line.get("request_id") == request_id]
    return found


def submit(client: Client, spec: dict[str, Any], request_id: str) -> str:
    answer = httpx.post(f"{client.url}/v1/jobs", json=spec, headers={"X-Request-ID": request_id})
    assert answer.headers["X-Request-ID"] == request_id
    return answer.json()["id"]


def ended(client: Client, job_id: str) -> Job:
    job = client.wait(job_id, timeout=200)
    assert (job.status, job.reason) == (JobStatus.SUCCEEDED, None)
    return job


@pytest.fixture(scope="module")
def before(client: Client) -> Values:
    return scrape(client)


@pytest.fixture(scope="module")
def job(client: Client, spec: dict[str, Any], before: Values) -> Job:
    return ended(client, submit(client, spec | {"seed": 4711}, "trace-1"))


def test_metrics_tell_what_a_job_did(client: Client, before: Values, job: Job, until: Until) -> None:
    until(
        lambda: grown(before, scrape(client))["coreset_worker_seconds_total", "model"] > 0
    )  # reported every few seconds
    after = scrape(client)
    reported = grown(before, after)
    assert reported["coreset_shards_total", "scored"] == SHARDS
    samples = {status: reported["coreset_samples_total", status] for status in job.progress.samples.bad}
    assert samples == job.progress.samples.bad
    assert reported["coreset_samples_total", "ok"] == job.progress.samples.scored
    attempts = {task: reported["coreset_task_attempts_total", task] for task in ("prepare", "score", "merge", "finish")}
    assert attempts == {"prepare": 1, "score": SHARDS, "merge": 1, "finish": 1}
    assert reported["coreset_jobs_ended_total", "succeeded"] == 1
    assert reported["coreset_http_requests_total", "POST /v1/jobs 202"] == 1
    assert reported["coreset_leases_expired_total", ""] == 0
    assert reported["coreset_worker_seconds_total", "data"] > 0
    assert reported["coreset_worker_seconds_total", "other"] > reported["coreset_task_seconds_total", "finish"] > 0
    assert after["coreset_jobs", "scoring"] == after["coreset_tasks", "gpu running"] == 0
    assert after["coreset_workers", "busy"] + after["coreset_workers", "idle"] == 1


def test_one_request_id_leads_through_all_logs(stack: LocalStack, job: Job) -> None:
    lines = logged(stack, "trace-1")
    accepted, answered = lines["service"]
    assert (accepted["event"], accepted["job"]) == ("job accepted", job.id)
    assert (answered["event"], answered["status"], answered["path"]) == ("request", 202, "/v1/jobs")
    reported = lines["worker-0"]
    assert {line["job"] for line in reported} == {job.id}
    assert all(line["worker"] for line in reported)
    tasks = [line["task"].removeprefix(f"{job.id}-") for line in reported if line["event"] == "task ended"]
    assert (tasks[0], tasks[-1]) == ("prepare", "finish")
    assert sorted(tasks[1:-2]) == [f"score-{index}" for index in range(SHARDS)]
    assert sorted(line["shard"] for line in reported if line["event"] == "shard scored") == list(range(SHARDS))


def test_an_expired_lease_is_counted_and_the_next_attempt_has_the_same_request_id(
    stack: LocalStack, client: Client, spec: dict[str, Any], until: Until
) -> None:
    before = scrape(client)
    job_id = submit(client, spec | {"seed": 4713}, "expired-1")
    until(lambda: client.get(job_id).status is JobStatus.PREPARING)
    worker = stack.children[1].process
    assert worker is not None
    worker.kill()
    ended(client, job_id)
    reported = grown(before, scrape(client))
    assert reported["coreset_leases_expired_total", ""] == 1
    assert reported["coreset_task_attempts_total", "prepare"] == 2
    lines = logged(stack, "expired-1")["worker-0"]
    assert [line["attempt"] for line in lines if line["event"] == "task started"][:2] == [1, 2]
    assert any(line["event"].startswith("lease expired") for line in lines)


def test_a_problem_names_the_request(client: Client) -> None:
    answer = httpx.post(f"{client.url}/v1/jobs", json={}, headers={"X-Request-ID": "bad-1"})
    assert (answer.status_code, answer.json()["request_id"], answer.headers["X-Request-ID"]) == (422, "bad-1", "bad-1")
    unsafe = httpx.get(f"{client.url}/v1/jobs/nosuchjob", headers={"X-Request-ID": 'x" injected'})
    assert unsafe.json()["request_id"] == unsafe.headers["X-Request-ID"] != 'x" injected'
