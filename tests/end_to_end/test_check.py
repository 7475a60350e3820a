"""`coreset check` against the whole service: the plan of a job that does not start, and refusals as users see them."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from coreset.cli import app
from coreset.cli.output import out
from coreset.client import Client
from coreset.errors import CheckpointUnusable
from coreset.local.stack import LocalStack
from coreset.schemas.preflight import Preflight

pytestmark = pytest.mark.timeout(180)


def check(stack: LocalStack, spec: dict[str, Any], *options: str) -> Result:
    environment = {"CORESET_URL": stack.url}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(out, "width", 200)
        return CliRunner().invoke(app, ["check", "-", *options], input=json.dumps(spec), env=environment)


def test_the_plan_is_shown_and_no_job_is_made(stack: LocalStack, client: Client, spec: dict[str, Any]) -> None:
    spec = {**spec, "seed": 4711}  # no other test has this plan
    before = [job.id for job in client.jobs()]
    answer = check(stack, spec)
    assert answer.exit_code == 0, answer.output
    assert "N = 180" in answer.stdout
    assert str(spec["checkpoints"]["run"]) in answer.stdout.replace("\n", "")
    found = Preflight.model_validate_json(check(stack, spec, "--json").stdout)
    assert found.shards.number == 6
    assert found.first_shard.samples[0].status == "ok"
    assert [job.id for job in client.jobs()] == before
    assert not (Path(stack.storage) / "plans" / found.plan_id).exists()


@pytest.mark.slow
def test_the_job_has_the_plan_that_the_check_announced(client: Client, spec: dict[str, Any]) -> None:
    spec = {**spec, "reference": {"size": 16}, "scores": ["clip_score"], "select": {"k": 5, "by": "clip_score"}}
    announced = client.check(spec)
    job = client.wait(client.submit(spec).id, timeout=150)
    assert job.plan_id == announced.plan_id
    after = client.check(spec).outputs
    assert (after.parts_existing, after.prepared) == (6, True)
    assert Path(after.parts).is_dir()
    for file in (after.result, after.report, f"{after.selection}/subset.npy"):
        assert Path(file.replace("/ID/", f"/{job.id}/")).is_file()


def test_what_would_fail_is_code_2_with_its_name(stack: LocalStack, spec: dict[str, Any], tmp_path: Path) -> None:
    answer = check(stack, {**spec, "pool": {"shards": [str(tmp_path / "gone.tar")]}})
    assert answer.exit_code == 2
    assert f"{tmp_path}/gone.tar (not found)" in answer.stderr
    (tmp_path / "a.tar").write_bytes(b"noise" * 1000)
    answer = check(stack, {**spec, "pool": {"shards": [str(tmp_path / "a.tar")]}})
    assert answer.exit_code == 2
    assert f"{tmp_path}/a.tar is not a tar" in answer.stderr


def test_a_wrong_checkpoint_is_a_typed_error(client: Client, spec: dict[str, Any]) -> None:
    with pytest.raises(CheckpointUnusable, match="does not fit the architecture") as raised:
        client.check({**spec, "model": {"name": "RN50"}})
    assert raised.value.data["uri"].endswith(".pt")
