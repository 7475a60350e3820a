"""The command line against a real service: exit codes, JSON, one-sentence errors, absolute paths."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from coreset import Client, __version__
from coreset.access.api_keys import ApiKey
from coreset.cli import app
from coreset.cli.output import out
from coreset.cli.preflight import show_preflight
from coreset.cli.spec_files import absolute
from coreset.queue.job_store import JobStore
from coreset.schemas.job import JobStatus, Reason
from coreset.schemas.preflight import Preflight
from coreset.spec.job import JobSpec
from coreset.spec.selection import SelectSpec
from coreset_service.api_docs.examples import EVALUATION, JOB, PREFLIGHT, SELECTION

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
    monkeypatch.setattr("coreset.client.operations.DEFAULT_PATIENCE", 0.0)
    answer = run(url, "check", str(job_file))
    assert answer.exit_code == 3
    assert "no worker is alive" in answer.stderr


def test_a_preflight_is_shown_with_its_sources_and_what_it_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out, "width", 200)
    show_preflight(Preflight.model_validate(PREFLIGHT))
    shown = capsys.readouterr().out
    for expected in (
        "100, 52.4 GB, 1,000,000 samples announced (by sizes.json of 100)",
        "N = 1,000,000 (files beside the shards)",
        "ViT-B-32 (architecture from params.txt)",
        "all 151,277,313 parameters",
        "a red bicycle",
        "7812 (global_step)",
        "18.2 GB of 150.0 GB free on NVIDIA H200, 4.1 GB beside it",
        "prepare 130 s, score 1,250 s",
        "0 of 100 exist",
        "there is one checkpoint only",
    ):
        assert expected in shown, expected


def test_list_status_and_cancel_speak_to_people_and_programs(url: str, job: str) -> None:
    assert job in run(url, "list").stdout
    assert json.loads(run(url, "list", "--json").stdout)["jobs"][0]["id"] == job
    assert "waiting for a worker" in run(url, "status", job).stdout
    assert json.loads(run(url, "cancel", job, "--json").stdout)["status"] == "cancelling"


def test_a_cancelled_job_is_code_4_and_a_deleted_one_is_gone(url: str, job: str, store: JobStore) -> None:
    store.transition(job, JobStatus.CANCELLING)
    store.transition(job, JobStatus.CANCELLED)
    assert run(url, "status", job).exit_code == 4
    answer = run(url, "events", job, "--json")
    assert answer.exit_code == 4
    events = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [event["type"] for event in events] == ["status", "status", "progress", "ended"]
    later = run(url, "events", job, "--json", "--after", events[1]["id"]).stdout.splitlines()
    assert [json.loads(line)["type"] for line in later] == ["progress", "ended"]
    assert "cancelled" in run(url, "events", job).stdout.splitlines()[-1]
    assert json.loads(run(url, "delete", job, "--json").stdout) == {"id": job, "deleted": True}
    assert run(url, "status", job).exit_code == 2


def test_a_key_makes_a_repeated_submit_one_job(url: str, job_file: Path) -> None:
    answers = [run(url, "submit", str(job_file), "--json", "--idempotency-key", "nightly") for _ in range(2)]
    assert len({json.loads(answer.stdout)["id"] for answer in answers}) == 1


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--k", "5"], {"k": 5}),
        (["--k", "5", "--by", "diffin=2,clip_score"], {"k": 5, "by": {"diffin": 2, "clip_score": 1}}),
        (
            ["--threshold", "0.3", "--scale", "raw", "--by", "clip_score", "--winsorise", "0.01"],
            {"threshold": 0.3, "scale": "raw", "by": {"clip_score": 1}, "winsorise": 0.01},
        ),
        (
            [
                "--fraction",
                "0.5",
                "--filter",
                "loss.min=0.2",
                "--filter",
                "loss.max_rank=1",
                "--filter",
                "shard.any_of=a,b",
            ],
            {
                "fraction": 0.5,
                "filters": {"loss": {"min": 0.2, "max_rank": 1}, "shard": {"any_of": ["a", "b"]}},
            },
        ),
        (["--k", "5", "--quota", "cluster.max=2"], {"k": 5, "quota": {"field": "cluster", "max": 2}}),
        (
            ["--k", "5", "--quota", "cluster.shares=0:0.5,1:0.2"],
            {"k": 5, "quota": {"field": "cluster", "shares": {"0": 0.5, "1": 0.2}}},
        ),
        (
            ["--k", "5", "--temperature", "0.1", "--max-repeats", "3", "--seed", "7"],
            {"k": 5, "sampling": {"temperature": 0.1, "max_repeats": 3, "seed": 7}},
        ),
        (["--k", "5", "--within", "clip_score=cluster"], {"k": 5, "within": {"clip_score": "cluster"}}),
        (["--k", "5", "--within", ""], {"k": 5, "within": {}}),  # issue 18, point 19
        (["--spec", "{file}", "--k", "7"], {"k": 7, "combine": "union"}),
    ],
)
def test_select_sends_what_its_options_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], wanted: dict[str, Any]
) -> None:
    sent: list[Any] = []

    def post(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(201, json=SELECTION)

    transport = httpx.MockTransport(post)
    monkeypatch.setattr("coreset.cli.select.Client", lambda url, key: Client(url, key, transport=transport))
    file = tmp_path / "select.json"
    file.write_text(json.dumps({"k": 3, "combine": "union"}))
    answer = run("http://service", "select", "x", *(a.format(file=file) for a in arguments))
    assert answer.exit_code == 0, answer.output
    assert sent == [wanted]
    SelectSpec.model_validate(wanted)


def test_select_has_an_option_for_every_field() -> None:
    """What a later SelectSpec adds must be thought of here; write_shards is for job specs alone."""
    shown = run("http://service", "select", "--help").stdout
    options = {"filters": "filter", "sampling": "temperature"}
    for field in SelectSpec.model_fields.keys() - {"write_shards"}:
        assert f"--{options.get(field, field)} " in shown, field


@pytest.mark.slow
def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    """In a real bash, with the script that --show-completion prints."""
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = Path(sys.executable).with_name("coreset")
    shown = subprocess.check_output([command, "--show-completion", "bash"], env=environment, text=True)
    (tmp_path / "completion").write_text(shown)

    def completed(*words: str) -> set[str]:
        given = " ".join(f"'{word}'" for word in ("coreset", *words))
        script = f"""
            source {tmp_path}/completion
            PATH={command.parent}:$PATH
            COMP_WORDS=({given}); COMP_CWORD={len(words)}
            _coreset_completion coreset
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        return set(subprocess.check_output(["bash", "-c", script], env=environment, text=True).split())

    assert completed("s") == {"score", "select", "status", "submit"}
    assert completed("status", "--wa") == {"--wait"}
    assert completed("select", "x", "--combine", "") == {"mix", "intersection", "union"}


def test_the_help_tells_exit_codes_and_examples() -> None:
    assert "4 the job was cancelled" in " ".join(run("", "--help").stdout.split())
    for command in ("submit", "select", "events", "report", "check"):
        assert f"$ coreset {command}" in run("", command, "--help").stdout


def every_command(command: Any, *words: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command below one; groups alone have commands of their own."""
    if not hasattr(command, "commands"):
        yield words
    for name, inner in getattr(command, "commands", {}).items():
        yield from every_command(inner, *words, name)


def test_every_command_speaks_json() -> None:
    found = list(every_command(get_command(app)))
    assert ("key", "new") in found
    assert ("up",) in found
    for words in found:
        assert "--json" in run("", *words, "--help").stdout, words


def test_a_new_key_is_told_as_json() -> None:
    made = json.loads(run("", "key", "new", "--name", "a", "--scopes", "read", "--json").stdout)
    assert ApiKey.parse(made["line"]).sha256 == hashlib.sha256(made["key"].encode()).hexdigest()


def test_version_is_for_programs_too() -> None:
    assert json.loads(run("", "version", "--json").stdout)["version"] == __version__


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["status", "nobody"], "there is no job nobody"),
        (["submit", "/nowhere.json"], "/nowhere.json cannot be read"),
        (["submit", "-"], "is not JSON"),
        (["select", "nobody", "--k", "5", "--by", "diffin=x"], "has the weight 'x'; expected a number"),
        (["result", "{job}"], "it has a result once it has succeeded"),
        (["select", "{job}", "--k", "5"], "it has a result once it has succeeded"),
        (["select", "{job}"], "a selection has exactly one of `k`, `fraction` and `threshold`"),
        (["select", "{job}", "--filter", "clip_score>0.2"], "expected COLUMN.RULE=VALUE"),
        (
            ["select", "{job}", "--k", "5", "--filter", "clip_score.any_of=2"],
            "cannot have any_of; expected min, max, min_rank, max_rank",
        ),
        (["select", "{job}", "--spec", "/nowhere.json"], "is not a file with a JSON object"),
        (["report", "{job}"], "it has a result once it has succeeded"),
        (["delete", "{job}"], "queued"),
    ],
)
def test_what_the_caller_can_mend_is_code_2_and_one_sentence(
    url: str, job: str, arguments: list[str], expected: str
) -> None:
    answer = run(url, *(argument.format(job=job) for argument in arguments), stdin="nope")
    assert answer.exit_code == 2
    assert expected in answer.stderr
    assert "Traceback" not in answer.output


def test_a_bad_spec_names_the_field(url: str, job_file: Path) -> None:
    job_file.write_text(json.dumps({**SPEC, "select": {"k": 0}}))
    answer = run(url, "submit", str(job_file))
    assert answer.exit_code == 2
    assert "select.k" in answer.stderr


def test_no_service_is_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coreset.client.operations.DEFAULT_PATIENCE", 0.0)
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


def evaluate(monkeypatch: pytest.MonkeyPatch, *arguments: str, **evaluation: Any) -> tuple[Result, list[Any]]:
    """Run `coreset evaluate` against a service whose jobs succeed at once. Returns its answer and what was posted."""
    sent: list[Any] = []
    ended = {**JOB, "status": "succeeded"}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            sent.append(json.loads(request.content))
            return httpx.Response(202, json={**ended, "spec": sent[-1]})
        found = EVALUATION | evaluation if request.url.path.endswith("/evaluation") else ended
        return httpx.Response(200, json=found)

    transport = httpx.MockTransport(answer)
    monkeypatch.setattr("coreset.cli.evaluate.Client", lambda url, key: Client(url, key, transport=transport))
    return run("http://service", "evaluate", *arguments), sent


def test_evaluate_posts_a_jobs_spec_again_with_what_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--test", "held/{0..1}.tar", "--fraction", "0.5", "--fraction", "0.1", "--seeds", "5"]
    answer, (sent,) = evaluate(monkeypatch, JOB["id"], *options, "--samples-seen", "999")
    assert answer.exit_code == 0, answer.output
    asked = JobSpec.model_validate(sent)
    assert asked.evaluate is not None
    assert asked.evaluate.test.shards == [f"{tmp_path}/held/{{0..1}}.tar"]
    assert (asked.evaluate.fractions, asked.evaluate.seeds, asked.evaluate.samples_seen) == ([0.1, 0.5], 5, 999)
    assert asked.model_copy(update={"evaluate": None}) == JobSpec.model_validate(JOB["spec"])
    shown = " ".join(answer.stdout.split())
    assert "zero-shot accuracy of 10,000 samples" in shown
    assert "diffin 30.0% 299,400 41.10 ± 1.27 -1.00 ± 0.00" in shown


def test_evaluate_takes_a_spec_file_and_what_it_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, job_file: Path
) -> None:
    with_test = tmp_path / "with.json"
    with_test.write_text(json.dumps({**SPEC, "evaluate": {"test": {"shards": "t.tar"}, "seeds": 2, "lr": 0.01}}))
    answer, (sent,) = evaluate(monkeypatch, str(with_test), "--seeds", "4", "--json")
    assert sent["evaluate"]["test"]["shards"] == [f"{tmp_path}/t.tar"]
    assert (sent["evaluate"]["seeds"], sent["evaluate"]["lr"]) == (4, 0.01)
    assert json.loads(answer.stdout) == EVALUATION
    answer, sent = evaluate(monkeypatch, str(job_file))
    assert (answer.exit_code, sent) == (2, [])
    assert "--test" in answer.output


def test_evaluate_fails_where_no_proxy_was_trained(monkeypatch: pytest.MonkeyPatch, job_file: Path) -> None:
    answer, _ = evaluate(monkeypatch, str(job_file), "--test", "t.tar", measured=None, warnings=["evaluation: none"])
    assert answer.exit_code == 1
    assert "evaluation: none" in answer.stdout
