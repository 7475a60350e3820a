"""A job that evaluates: real proxies, by a real worker that is killed among them, cancelled, and asked again."""

import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from coreset.client import Client
from coreset.errors import InvalidSpec, ShardUnreadable
from coreset.local.stack import LocalStack
from coreset.schemas.evaluation import Evaluation
from coreset.schemas.job import Job, JobStatus
from coreset.schemas.manifest import Manifest
from coreset.schemas.problems import error_classes
from demo.pool import write_sound_shard
from tests.conftest import TINY_MODEL
from tests.end_to_end.conftest import Until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SEEDS = 2
RULES = {
    "diffin": {"by": "diffin"},
    "clip_score": {"by": "clip_score"},
    "random": {"by": "loss", "sampling": {"temperature": 1000}},
}
Files = dict[str, tuple[int, bytes]]


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("held_out") / "test.tar"
    write_sound_shard(path, 40, seed=7)
    return path


@pytest.fixture(scope="module")
def evaluating(spec: dict[str, Any], held_out: Path) -> dict[str, Any]:
    """The tiny job, with proxies of a second or so each."""
    return {
        **spec,
        "evaluate": {
            "test": {"shards": [str(held_out)]},
            "fractions": [0.2, 0.5],
            "seeds": SEEDS,
            "selections": RULES,
            "samples_seen": 480,
            "batch_size": 16,
            "model": {"config": TINY_MODEL},
        },
    }


def outcomes(stack: LocalStack, job: Job) -> Files:
    folder = Path(stack.storage) / "plans" / str(job.plan_id) / "trials"
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("[0-9a-f]*.json")}


@pytest.fixture(scope="module")
def watched() -> list[Job]:
    return []


@pytest.fixture(scope="module")
def kept(stack: LocalStack) -> dict[str, Files]:
    return {}


@pytest.fixture(scope="module")
def job(
    stack: LocalStack,
    client: Client,
    evaluating: dict[str, Any],
    watched: list[Job],
    kept: dict[str, Files],
    until: Until,
) -> Job:
    """A job whose worker is killed when some proxies are trained."""
    posted = client.submit(evaluating)
    until(lambda: len(outcomes(stack, client.get(posted.id))) >= 3)
    process = stack.children[1].process
    assert process is not None
    process.kill()
    process.wait()
    kept["before"] = outcomes(stack, client.get(posted.id))
    return client.wait(posted.id, progress=watched.append, timeout=120)


@pytest.fixture(scope="module")
def evaluation(client: Client, job: Job) -> Evaluation:
    return client.evaluation(job.id)


def test_a_killed_worker_costs_no_trained_proxy(
    stack: LocalStack, job: Job, kept: dict[str, Files], watched: list[Job]
) -> None:
    assert (job.status, job.reason) == (JobStatus.SUCCEEDED, None)
    after = outcomes(stack, job)
    assert 3 <= len(kept["before"]) < len(after) == SEEDS * (1 + 2 * len(RULES))
    assert kept["before"].items() <= after.items()
    stages = [seen.progress.stage for seen in watched]
    assert any(re.fullmatch(r"training proxies, \d+ of 14", stage) for stage in stages)
    assert {seen.status for seen in watched} <= {JobStatus.REDUCING, JobStatus.SUCCEEDED}


def test_every_selection_is_measured_at_equal_size(evaluation: Evaluation, client: Client, job: Job) -> None:
    sizes = {(cut.selection, cut.fraction): cut.k for cut in evaluation.cuts}
    scored = client.result(job.id).scored
    assert sizes == {("full", 1.0): scored} | {(name, f): round(f * scored) for name in RULES for f in (0.2, 0.5)}
    assert (evaluation.measured, evaluation.failed, evaluation.warnings) == ("recall", [], [])
    assert (evaluation.pool_samples, evaluation.test_samples, evaluation.test_samples_in_pool) == (scored, 40, 0)
    for cut in evaluation.cuts:
        assert [proxy.seed for proxy in cut.proxies] == [0, 1]
        assert cut.points is not None
        assert cut.points.mean == pytest.approx(sum(proxy.points for proxy in cut.proxies) / SEEDS)
        rivals = {"clip_score", "random"} - {cut.selection} if cut.selection != "full" else set()
        assert cut.against.keys() == rivals


def test_manifest_report_and_answer_have_the_same_evaluation(
    client: Client, job: Job, evaluation: Evaluation, stack: LocalStack
) -> None:
    manifest: Manifest = client.result(job.id)
    assert manifest.evaluation is not None
    assert Evaluation.model_validate_json(Path(manifest.evaluation.uri).read_bytes()) == evaluation
    assert httpx.get(f"{client.url}{client.get(job.id).links['evaluation']}").json()["job_id"] == job.id
    inside = re.search(r'id="evaluated">(.*?)</script>', client.report(job.id).decode(), re.DOTALL)
    assert inside is not None
    assert Evaluation.model_validate_json(inside[1]) == evaluation


def test_asked_again_nothing_is_scored_or_trained_anew(
    stack: LocalStack, client: Client, job: Job, evaluating: dict[str, Any], evaluation: Evaluation
) -> None:
    before = outcomes(stack, job)
    narrower = {**evaluating["evaluate"], "fractions": [0.5]}
    again = client.wait(client.submit({**evaluating, "evaluate": narrower}).id, timeout=60)
    assert (again.status, again.plan_id) == (JobStatus.SUCCEEDED, job.plan_id)
    assert outcomes(stack, again) == before
    found = client.evaluation(again.id)
    assert found.cuts == [cut for cut in evaluation.cuts if cut.fraction in (0.5, 1.0)]


def test_the_jobs_id_does_not_depend_on_the_evaluation(client: Client, job: Job, spec: dict[str, Any]) -> None:
    plain = client.wait(client.submit(spec).id, timeout=60)
    assert plain.plan_id == job.plan_id
    assert plain.progress.shards.done == 6


def test_a_cancel_stops_the_training_of_a_proxy(client: Client, evaluating: dict[str, Any], until: Until) -> None:
    long = {**evaluating["evaluate"], "samples_seen": 1_000_000}
    posted = client.submit({**evaluating, "evaluate": long})
    until(lambda: client.get(posted.id).progress.stage.startswith("training proxies"))
    client.cancel(posted.id)
    started = time.monotonic()
    assert client.wait(posted.id, timeout=30).status is JobStatus.CANCELLED
    assert time.monotonic() - started < 5


def submitted(client: Client, spec: dict[str, Any]) -> None:
    """Raise the error of a job that cannot be done: from the service if it sees the workers' files, else the job's."""
    reason = client.wait(client.submit(spec).id, timeout=100).reason
    assert reason is not None
    raise error_classes()[reason.code](reason.message)


def test_a_test_that_is_not_held_out_is_refused_before_anything_is_scored(
    client: Client, evaluating: dict[str, Any], spec: dict[str, Any]
) -> None:
    same = {**evaluating, "evaluate": {**evaluating["evaluate"], "test": spec["pool"]}}
    found = client.check(evaluating).evaluation
    assert found is not None
    assert (found.proxies, found.test_shards.number, found.model.source) == (SEEDS * (1 + 2 * len(RULES)), 1, "spec")
    with pytest.raises(InvalidSpec, match="must be held out, but 6 of its shards are the pool's"):
        client.check(same)
    gone = {**evaluating, "evaluate": {**evaluating["evaluate"], "test": {"shards": ["/nowhere/test.tar"]}}}
    with pytest.raises(ShardUnreadable, match=r"/nowhere/test\.tar"):
        client.check(gone)
    with pytest.raises(ShardUnreadable, match=r"/nowhere/test\.tar"):
        submitted(client, gone)


def test_proxies_that_cannot_be_trained_are_counted_and_named(
    client: Client, evaluating: dict[str, Any], stack: LocalStack, tiny_pool: Path, held_out: Path, tmp_path: Path
) -> None:
    """A quota that leaves too few, and a test whose samples are the pool's under another name."""
    rules = {"clip_score": {"by": "clip_score"}, "few": {"by": "loss", "quota": {"field": "shard", "max": 1}}}
    copied = tmp_path / "copied.tar"
    copied.write_bytes((tiny_pool / "000000.tar").read_bytes())
    ask = {**evaluating["evaluate"], "selections": rules, "fractions": [0.5], "seeds": 1, "samples_seen": 200}
    ask["test"] = {"shards": [str(held_out), str(copied)]}
    job = client.wait(client.submit({**evaluating, "evaluate": ask}).id, timeout=100)
    assert job.status is JobStatus.SUCCEEDED
    found = client.evaluation(job.id)
    (failure,) = found.failed
    assert (failure.selection, failure.seed) == ("few", 0)
    assert "the quota admits only 6 samples; raise the quota, or lower k" in failure.message
    assert {cut.selection: cut.points is not None for cut in found.cuts} == {
        "full": True,
        "clip_score": True,
        "few": False,
    }
    assert found.test_samples == 40
    assert found.test_samples_in_pool > 20
    assert job.warnings == found.warnings
    assert [warning.split(":")[0] for warning in job.warnings] == ["evaluation", "evaluation"]
    assert "1 of 3 proxies could not be trained" in json.dumps(client.result(job.id).warnings)
