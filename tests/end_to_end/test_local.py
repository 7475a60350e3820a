"""`coreset score` on the tiny pool: killed, started again, and the same bytes as the served job's."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from coreset.client import Client
from coreset.schemas.manifest import Manifest
from tests.end_to_end.conftest import Until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

COMMAND = [str(Path(sys.executable).with_name("coreset")), "score"]
ENVIRONMENT = {**os.environ, "CORESET_LOADER_PROCESSES": "1"}


def score(job_file: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, str(job_file), "--out", str(out), "--json"]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)


@pytest.fixture(scope="module")
def job_file(tmp_path_factory: pytest.TempPathFactory, spec: dict[str, Any]) -> Path:
    path = tmp_path_factory.mktemp("local") / "job.json"
    path.write_text(json.dumps(spec))
    return path


def contents(manifest: Manifest) -> dict[str, str]:
    """The sha256 of every part and of the subset, by name."""
    files = {Path(part.uri).name: Path(part.uri) for part in manifest.parts}
    files |= {name: Path(file.uri) for name, file in manifest.selection.files.items()}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def test_a_killed_job_goes_on_and_equals_the_served_one(
    job_file: Path, tmp_path: Path, until: Until, client: Client, spec: dict[str, Any]
) -> None:
    process = subprocess.Popen(
        [*COMMAND, str(job_file), "--out", str(tmp_path)], env=ENVIRONMENT, stderr=subprocess.DEVNULL
    )
    until(lambda: process.poll() is not None or list(tmp_path.glob("plans/*/parts/*.json")))
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("plans/*/parts/*.json")}
    assert 0 < len(before) < 6
    assert not list(tmp_path.glob("jobs/*/manifest.json"))

    answer = score(job_file, tmp_path)
    assert answer.returncode == 0, answer.stderr
    mine = Manifest.model_validate_json(answer.stdout)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(tmp_path.glob("plans/*/parts/*.json"))) == 6

    served = client.result(client.wait(client.submit(spec).id, timeout=200).id)
    assert mine.plan_id == served.plan_id
    assert contents(mine) == contents(served)
    assert mine.model_dump(include={"accuracy", "steps", "read", "bad", "comparisons"}) == served.model_dump(
        include={"accuracy", "steps", "read", "bad", "comparisons"}
    )
    assert Path(mine.report.uri if mine.report else "").stat().st_size > 10_000
    assert client.scores(served.job_id, ["uid", "diffin"]) == pq.read_table([p.uri for p in mine.parts]).select(
        ["uid", "diffin"]
    )


def test_exit_codes_are_those_of_a_served_job(job_file: Path, tmp_path: Path, spec: dict[str, Any]) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({**spec, "select": {"k": 0}}))
    answer = score(wrong, tmp_path / "out")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "select.k" in answer.stderr
    wrong.write_text(json.dumps({**spec, "pool": {"shards": [str(tmp_path / "none.tar")]}}))
    answer = score(wrong, tmp_path / "out")
    assert answer.returncode == 1
    assert "none.tar" in answer.stderr
    assert "Traceback" not in answer.stderr
