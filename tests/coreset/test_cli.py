"""The command line against a real service: exit codes, JSON, one-sentence errors, absolute paths."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from coreset.cli import app
from coreset.cli.paths import absolute
from coreset.cli.preflight import show_preflight
from coreset.cli.tell import out
from coreset.job import JobStatus, Reason
from coreset.preflight import Preflight
from coreset.store import JobStore
from service.examples import PREFLIGHT

SPEC: dict[str, Any] = {
    "pool": {"shards": ["pool/{000000..000005}.tar"]},
    "checkpoints": {"run": "logs/demo"},
    "select": {"k": 10},
}


def run(url: str, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin, env={"CORESET_URL": url, "COLUMNS": "200"})


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(SPEC))
    return path


@pytest.fixture
def job(url: str, job_file: Path) -> str:
    return json.loads(run(url, "submit", str(job_file), "--json").stdout)["id"]


def test_submit_sends_absolute_paths_and_prints_the_job(url: str, job_file: Path) -> None:
    answer = run(url, "submit", str(job_file), "--json")
    assert answer.exit_code == 0, answer.output
    spec = json.loads(answer.stdout)["spec"]
    assert spec["pool"]["shards"] == [f"{job_file.parent}/pool/{{000000..000005}}.tar"]
    assert spec["checkpoints"]["run"] == f"{job_file.parent}/logs/demo"


def test_submit_reads_stdin(url: str) -> None:
    answer = run(url, "submit", "-", "--json", stdin=json.dumps(SPEC))
    assert json.loads(answer.stdout)["spec"]["checkpoints"]["run"] == str(Path.cwd() / "logs/demo")


@pytest.mark.parametrize("as_json", [True, False])
def test_wait_ends_with_the_job_and_its_code(url: str, job: str, store: JobStore, as_json: bool) -> None:
    store.transition(job, JobStatus.PREPARING)
    reason = Reason(code="shard-unreadable", message="a.tar is not a tar")
    ender = threading.Timer(0.3, store.transition, (job, JobStatus.FAILED, reason))
    ender.start()
    answer = run(url, "status", job, "--wait", *(["--json"] if as_json else []))
    ender.join()
    assert answer.exit_code == 1
    assert "a.tar is not a tar" in answer.stdout
    if as_json:
        assert json.loads(answer.stdout)["status"] == "failed"


def test_check_without_a_worker_is_code_3(url: str, job_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coreset.client.PATIENCE_SECONDS", 0.0)
    answer = run(url, "check", str(job_file))
    assert answer.exit_code == 3
    assert "no worker is alive" in answer.stderr


def test_a_preflight_is_shown_with_its_sources_and_what_it_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out, "width", 200)
    show_preflight(Preflight.model_validate(PREFLIGHT))
    shown = capsys.readouterr().out
    for told in (
        "100, 52.4 GB, 1,000,000 samples announced (by sizes.json of 100)",
        "N = 1,000,000 (files beside the shards)",
        "ViT-B-32 (architecture from params.txt)",
        "all 151,277,313 parameters",
        "a red bicycle",
        "7812 (global_step)",
        "18.2 GB of 150.0 GB free on NVIDIA H200, 4.1 GB beside it",
        "prepare 130 s, score 1,250 s",
        "0 of 100 are there",
        "there is one checkpoint only",
    ):
        assert told in shown, told


def test_list_status_and_cancel_speak_to_people_and_programs(url: str, job: str) -> None:
    assert job in run(url, "list").stdout
    assert json.loads(run(url, "list", "--json").stdout)["jobs"][0]["id"] == job
    assert "waiting for a worker" in run(url, "status", job).stdout
    assert json.loads(run(url, "cancel", job, "--json").stdout)["status"] == "cancelling"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["status", "nobody"], "there is no job nobody"),
        (["submit", "/nowhere.json"], "/nowhere.json cannot be read"),
        (["submit", "-"], "is not JSON"),
        (["select", "nobody", "--k", "5", "--by", "diffin=x"], "'x' is not a number"),
        (["result", "{job}"], "there is a result when it has succeeded"),
        (["select", "{job}", "--k", "5"], "there is a result when it has succeeded"),
        (["select", "{job}"], "give either `k` or `fraction`"),
    ],
)
def test_what_the_caller_can_mend_is_code_2_and_one_sentence(
    url: str, job: str, arguments: list[str], told: str
) -> None:
    answer = run(url, *(argument.format(job=job) for argument in arguments), stdin="nope")
    assert answer.exit_code == 2
    assert told in answer.stderr
    assert "Traceback" not in answer.output


def test_a_bad_spec_names_the_field(url: str, job_file: Path) -> None:
    job_file.write_text(json.dumps({**SPEC, "select": {"k": 0}}))
    answer = run(url, "submit", str(job_file))
    assert answer.exit_code == 2
    assert "select.k" in answer.stderr


def test_no_service_is_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coreset.client.PATIENCE_SECONDS", 0.0)
    answer = run("http://127.0.0.1:1", "list")
    assert answer.exit_code == 3
    assert "no service answers" in answer.stderr


def test_absolute_leaves_schemes_and_odd_shapes_alone(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").touch()
    spec = {
        "pool": {"shards": "a/{0..1}.tar::s3://b/c.tar"},
        "checkpoints": {"files": [{"uri": "../x.pt"}, {"uri": "hf://y"}, 3]},
        "target": {"pool": {"shards": ["pipe:cat v.tar", "/v.tar"]}},
        "clip_model": {"name": "ViT-B-32", "pretrained": "weights.pt"},
        "seed": 1,
    }
    assert absolute(spec, tmp_path) == {
        "pool": {"shards": f"{tmp_path}/a/{{0..1}}.tar::s3://b/c.tar"},
        "checkpoints": {"files": [{"uri": f"{tmp_path.parent}/x.pt"}, {"uri": "hf://y"}, 3]},
        "target": {"pool": {"shards": ["pipe:cat v.tar", "/v.tar"]}},
        "clip_model": {"name": "ViT-B-32", "pretrained": f"{tmp_path}/weights.pt"},
        "seed": 1,
    }
    assert absolute({"clip_model": {"pretrained": "openai"}, "pool": 3}, tmp_path) == {
        "clip_model": {"pretrained": "openai"},
        "pool": 3,
    }
    assert absolute([1], tmp_path) == [1]
