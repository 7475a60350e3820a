"""One job from its spec to its coreset, over HTTP, by a real worker on a real pool and real checkpoints."""

import hashlib
import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coreset import __version__
from coreset.client import Client
from coreset.errors import InvalidSpec
from coreset.local.stack import LocalStack
from coreset.schemas.job import Job, JobStatus
from coreset.schemas.manifest import Manifest, Selection
from coreset.schemas.part import part_schema
from coreset.schemas.plan import Plan
from coreset.spec.scores import ESTIMATORS
from coreset.uids import from_subset
from demo.plan import Defect, defect_counts

pytestmark = pytest.mark.timeout(240)

SAMPLES, SHARDS, K = 180, 6, 40


@pytest.fixture(scope="module")
def watched() -> list[Job]:
    return []


@pytest.fixture(scope="module")
def job(client: Client, spec: dict[str, Any], watched: list[Job]) -> Job:
    return client.wait(client.submit(spec).id, progress=watched.append, timeout=200)


@pytest.fixture(scope="module")
def manifest(client: Client, job: Job) -> Manifest:
    return client.result(job.id)


@pytest.fixture(scope="module")
def rows(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Every row of every part, by uid."""
    return {row["uid"]: row for part in manifest.parts for row in pq.read_table(part.uri).to_pylist()}


def table_of(client: Client, selection: Selection) -> pa.Table:
    return pq.read_table(io.BytesIO(client.download(selection.job_id, selection.id, "subset.parquet")))


def test_the_job_succeeds_and_counts_every_sample(job: Job) -> None:
    assert (job.status, job.reason) == (JobStatus.SUCCEEDED, None)
    assert job.progress.fraction == 1
    assert (job.progress.shards.done, job.progress.shards.total) == (SHARDS, SHARDS)
    bad = {Defect.IMAGELESS: "no_image", Defect.EMPTY: "empty_caption", Defect.BROKEN: "bad_image"}
    expected = {status: defect_counts(SAMPLES)[defect] for defect, status in bad.items()}
    assert job.progress.samples.bad == expected
    assert job.progress.samples.read == job.progress.samples.scored + sum(expected.values()) == SAMPLES


def test_waiting_shows_the_job_on_its_way(job: Job, watched: list[Job]) -> None:
    statuses = list(dict.fromkeys(seen.status for seen in watched))
    assert statuses[-1] is JobStatus.SUCCEEDED
    assert len(watched) > 3
    assert {JobStatus.QUEUED, JobStatus.PREPARING} & set(statuses)
    fractions = [seen.progress.fraction for seen in watched]
    assert fractions == sorted(fractions)


def test_the_manifest_tells_how_the_scores_were_made(manifest: Manifest, job: Job, tiny_run: Path) -> None:
    assert manifest.spec == job.spec
    assert (manifest.spec.seed, manifest.spec.reference.seed) == (0, 0)
    assert manifest.environment.coreset == __version__
    assert (manifest.environment.device, manifest.environment.precision) == ("cpu", "float32")
    assert manifest.environment.torch
    assert manifest.environment.open_clip
    assert set(manifest.accuracy) == set(ESTIMATORS)
    assert manifest.n_samples.value == SAMPLES
    assert len(set(manifest.reference_uids)) == 24
    assert manifest.plan_id == job.plan_id


def test_the_manifest_tells_each_checkpoints_step_and_lr_and_where_they_come_from(
    manifest: Manifest, tiny_run: Path
) -> None:
    steps = 11  # of 16 samples each, an epoch
    for number, checkpoint in enumerate(manifest.checkpoints, start=1):
        path = tiny_run / "checkpoints" / f"epoch_{number}.pt"
        assert (checkpoint.uri, checkpoint.epoch) == (str(path), number)
        assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (checkpoint.step.value, checkpoint.step.source) == (number * steps, "optimizer state")
        assert (checkpoint.lr.source, checkpoint.lr_sum.source) == ("optimizer state", "params.txt")
        assert 0 < checkpoint.lr.value < checkpoint.lr_sum.value
        assert checkpoint.optimizer == "adamw"
    assert len(manifest.checkpoints) == 2


def test_every_file_of_the_result_has_the_sha256_that_the_manifest_says(manifest: Manifest) -> None:
    files = [*manifest.parts, *manifest.selection.files.values(), manifest.report]
    assert len(files) == SHARDS + 3
    for file in files:
        content = Path(file.uri).read_bytes()
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest()), file.uri


def test_each_shard_has_a_part_with_all_its_samples(stack: LocalStack, manifest: Manifest, tiny_pool: Path) -> None:
    plan = Plan.from_json((Path(stack.storage) / "plans" / manifest.plan_id / "plan.json").read_bytes())
    for path, part in zip(sorted(tiny_pool.glob("*.tar")), manifest.parts, strict=True):
        with tarfile.open(path) as tar:
            keys = list(dict.fromkeys(name.split(".")[0] for name in tar.getnames()))
        table = pq.read_table(part.uri)
        assert table["key"].to_pylist() == keys
        assert table.schema.equals(part_schema(plan))
        assert part.rows == len(keys)


def test_the_selection_holds_k_uids_once_and_both_files_agree(client: Client, manifest: Manifest) -> None:
    selection = manifest.selection
    subset = np.load(io.BytesIO(client.download(manifest.job_id, selection.id, "subset.npy")))
    uids = table_of(client, selection)["uid"].to_pylist()
    assert subset.dtype == np.dtype("u8,u8")
    assert len(uids) == len(set(uids)) == len(subset) == selection.k == K
    assert from_subset(subset) == sorted(uids)


def test_another_selection_is_cut_without_scoring_again(
    client: Client, manifest: Manifest, rows: dict[str, dict[str, Any]]
) -> None:
    selection = client.select(manifest.job_id, {"k": 25, "by": "clip_score"})
    scored = [row for row in rows.values() if row["status"] == "ok"]
    best = sorted(scored, key=lambda row: (-row["clip_score"], row["uid"]))[:25]
    assert table_of(client, selection)["uid"].to_pylist() == [row["uid"] for row in best]
    assert client.selection(manifest.job_id, selection.id) == selection
    assert selection.id != manifest.selection.id


def test_a_selection_looks_at_sizes_captions_and_clusters_that_scoring_found(
    client: Client, manifest: Manifest, rows: dict[str, dict[str, Any]]
) -> None:
    lengths = {"caption_length": {"min": 30}, "image_width": {"min": 60}}
    quota = {"field": "cluster", "balance": "equal"}
    selection = client.select(manifest.job_id, {"k": 12, "by": "clip_score", "filters": lengths, "quota": quota})
    fit = [
        row for row in rows.values() if row["status"] == "ok" and len(row["caption"]) >= 30 and row["image_width"] >= 60
    ]
    assert (selection.rankable, selection.filtered) == (len(fit), manifest.scored - len(fit))
    assert 12 < len(fit) < manifest.scored
    kept = Counter(rows[uid]["cluster"] for uid in table_of(client, selection)["uid"].to_pylist())
    there = Counter(row["cluster"] for row in fit)
    assert all(kept[c] >= max(kept.values()) - 1 or kept[c] == there[c] for c in there)


def test_scores_are_read_over_http(client: Client, manifest: Manifest, rows: dict[str, dict[str, Any]]) -> None:
    address = f"{client.url}/v1/jobs/{manifest.job_id}/scores"
    found = [json.loads(line) for line in httpx.get(address, params={"fields": "uid,status"}).text.splitlines()]
    assert {row["uid"]: row["status"] for row in found} == {uid: row["status"] for uid, row in rows.items()}
    uid = found[7]["uid"]
    (one,) = httpx.get(address, params={"uid": uid}).text.splitlines()
    assert json.loads(one)["caption"] == rows[uid]["caption"]
    assert httpx.get(address, params={"uid": "1234"}).json()["uids"] == ["1234".zfill(32)]


def test_more_than_there_is_cannot_be_selected(client: Client, manifest: Manifest) -> None:
    with pytest.raises(InvalidSpec, match=f"k is 180, but only {manifest.scored} samples can be ranked"):
        client.select(manifest.job_id, {"k": SAMPLES})


def test_the_report_is_served_as_one_page(client: Client, manifest: Manifest) -> None:
    answer = httpx.get(f"{client.url}/v1/jobs/{manifest.job_id}/report")
    assert answer.headers["content-type"].startswith("text/html")
    assert hashlib.sha256(answer.content).hexdigest() == manifest.report.sha256
    assert f"{K} of {manifest.selection.rankable} samples kept" in answer.text


def test_a_job_that_writes_shards_uses_the_same_parts(
    client: Client, spec: dict[str, Any], manifest: Manifest, rows: dict[str, dict[str, Any]], tiny_pool: Path
) -> None:
    writing = client.submit({**spec, "select": {**spec["select"], "write_shards": True}})
    assert client.wait(writing.id, timeout=60).status is JobStatus.SUCCEEDED
    result = client.result(writing.id)
    assert result.parts == manifest.parts
    written = members_of(Path(result.selection.files["shards/00000000.tar"].uri))
    uids = table_of(client, result.selection)["uid"].to_pylist()
    assert uids == table_of(client, manifest.selection)["uid"].to_pylist()
    pool = {name: data for path in tiny_pool.glob("*.tar") for name, data in members_of(path).items()}
    expected = {f"{uid}.{ext}": pool[f"{rows[uid]['key']}.{ext}"] for uid in uids for ext in ("jpg", "txt", "json")}
    assert written == expected


def members_of(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def test_the_plan_in_the_storage_is_the_one_that_the_job_names(stack: LocalStack, manifest: Manifest) -> None:
    text = (Path(stack.storage) / "plans" / manifest.plan_id / "plan.json").read_bytes()
    assert Plan.from_json(text).id == manifest.plan_id


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"select": {}}, "select"),
        ({"pool": {"shards": ["pipe:cat /etc/passwd"]}}, "pool.shards"),
        ({"scores": ["clip_score"], "select": {"k": 40, "by": "diffin"}}, ""),
        ({"no_such_field": 1}, "no_such_field"),
    ],
)
def test_a_bad_spec_is_refused_as_problem_json(
    client: Client, spec: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    answer = httpx.post(f"{client.url}/v1/jobs", json=spec | change)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"].endswith("/problems/invalid-spec")
    assert [error["field"] for error in problem["errors"]] == [field]
    with pytest.raises(InvalidSpec):
        client.submit(spec | change)
