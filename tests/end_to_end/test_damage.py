"""Damaged pools and runs: what can be scored is scored, and the rest is reported with counts and names."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from coreset.client import Client
from coreset.errors import ShardUnreadable
from coreset.schemas.job import Job, JobStatus

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def damaged(tiny_pool: Path, spec: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A spec of three shards: a whole one, one that is cut off, and one that is no tar."""
    directory = tmp_path_factory.mktemp("damaged")
    shutil.copy(tiny_pool / "000000.tar", directory)
    whole = (tiny_pool / "000001.tar").read_bytes()
    (directory / "000001.tar").write_bytes(whole[: len(whole) // 2 - 100])
    (directory / "000002.tar").write_bytes(b"noise" * 1000)
    for number in range(2):
        (directory / f"{number:06d}_stats.json").write_text(json.dumps({"successes": 30}))
    return {
        **spec,
        "pool": {"shards": [str(directory / "{000000..000002}.tar")]},
        "reference": {"size": 8},
        "select": {"k": 10},
    }


def ended(client: Client, spec: dict[str, Any]) -> Job:
    return client.wait(client.submit(spec).id, timeout=100)


def test_a_cut_off_shard_is_counted_and_a_failed_one_named_where_one_may_fail(
    client: Client, damaged: dict[str, Any]
) -> None:
    job = ended(client, {**damaged, "max_failed_shards": 1})
    assert job.status is JobStatus.SUCCEEDED, job.reason
    cut, noise = (damaged["pool"]["shards"][0].replace("{000000..000002}", name) for name in ("000001", "000002"))
    result = client.result(job.id)
    read = result.parts[1].rows
    assert read is not None
    assert 5 < read < 25
    assert result.read == result.scored + sum(result.bad.values()) == 30 + read
    assert result.damaged_shards.keys() == {cut}
    assert result.damaged_shards[cut].startswith("cut off or damaged after ")
    assert f"{cut}: {30 - read} announced samples did not come" in result.warnings
    assert result.failed_shards == [noise]
    assert [(failed.shard, failed.uri, failed.message) for failed in job.failed_shards] == [
        (2, noise, f"{noise} is not a tar file")
    ]
    assert (job.progress.shards.done, job.progress.shards.failed) == (2, 1)


def test_the_same_pool_fails_where_no_shard_may(client: Client, damaged: dict[str, Any]) -> None:
    job = ended(client, damaged)
    assert job.status is JobStatus.FAILED
    assert job.reason is not None
    assert job.reason.code == "pool-unusable"
    assert "1 of 3 shards failed, 0 may" in job.reason.message
    assert "000002.tar" in job.reason.message


def test_a_shard_that_is_not_there_is_named_at_once(client: Client, spec: dict[str, Any]) -> None:
    missing = r"2 of 2 shards cannot be opened: /nowhere/0\.tar \(not found\), /nowhere/1\.tar \(not found\)"
    gone = {**spec, "pool": {"shards": ["/nowhere/{0..1}.tar"]}}
    for ask in (client.check, client.submit):
        with pytest.raises(ShardUnreadable, match=missing):
            ask(gone)


def test_a_run_without_checkpoints_fails_the_job_with_the_way_out(
    client: Client, spec: dict[str, Any], tmp_path: Path
) -> None:
    job = ended(client, {**spec, "checkpoints": {"run": str(tmp_path)}})
    assert (job.status, job.reason.code) == (JobStatus.FAILED, "checkpoint-unusable")
    assert "Give the run's directory" in job.reason.message


def test_checkpoints_of_another_architecture_fail_the_job_with_the_names(client: Client, spec: dict[str, Any]) -> None:
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
    }
    job = ended(client, {**spec, "model": {"name": "other", "config": config}})
    assert (job.status, job.reason.code) == (JobStatus.FAILED, "checkpoint-unusable")
    assert "epoch_1.pt does not fit the architecture other (spec): 12 missing (visual.transformer.resblocks.2" in (
        job.reason.message
    )
