"""A job that cleans a pool with known errors: it finds them, keeps the rest, and shows them first."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks.shards import write_shard
from coreset.client import Client
from coreset.schemas.job import JobStatus
from coreset.schemas.manifest import SUSPECTS, Manifest
from coreset.uids import from_subset
from coreset_workers.data.tar import RawSample
from demo.drawing import jpeg
from demo.train import Training, train
from tests.conftest import TINY_MODEL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (40, 60, 200), "yellow": (220, 200, 40)}
SAMPLES, WRONG = 240, 36


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """A folder with a shard of plain colours and their names, and the uids of those that have another one's name."""
    draws, names = np.random.default_rng(0), list(COLOURS)
    wrong = {int(i) for i in draws.permutation(SAMPLES)[:WRONG]}
    raws: list[RawSample] = []
    for i in range(SAMPLES):
        pixels = np.array(COLOURS[names[i % 4]]) + draws.normal(0, 25, size=(32, 32, 3))
        picture = jpeg(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), 90)
        given = names[(i + int(draws.integers(1, 4))) % 4] if i in wrong else names[i % 4]
        members = {"jpg": picture, "txt": f"something {given}".encode(), "json": json.dumps({"uid": uid(i)}).encode()}
        raws.append(RawSample("", "", i, members))
    folder = tmp_path_factory.mktemp("wrong") / "pool"
    folder.mkdir()
    write_shard(folder / "000000.tar", raws)
    return folder, {uid(i) for i in wrong}


def uid(number: int) -> str:
    return f"{number + 1:032x}"


@pytest.fixture(scope="module")
def manifest(client: Client, pool: tuple[Path, set[str]], tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("training")
    (folder / "tiny.json").write_text(json.dumps(TINY_MODEL))
    training = Training("wrong", 5, 24, 3e-3, loader_workers=0, model_config=folder / "tiny.json")
    spec = {
        "pool": {"shards": [str(pool[0] / "000000.tar")]},
        "checkpoints": {"run": str(train(pool[0], folder / "logs", training))},
        "reference": {"size": 64},
        "clean": {"fraction": WRONG / SAMPLES},
    }
    job = client.wait(client.submit(spec).id, timeout=200)
    assert (job.status, job.reason) == (JobStatus.SUCCEEDED, None)
    return client.result(job.id)


@pytest.fixture(scope="module")
def suspects(client: Client, manifest: Manifest) -> list[dict[str, Any]]:
    content = client.download(manifest.job_id, manifest.selection.id, SUSPECTS)
    return pq.read_table(io.BytesIO(content)).to_pylist()


def test_errors_are_found_far_more_often_than_by_chance(
    suspects: list[dict[str, Any]], pool: tuple[Path, set[str]]
) -> None:
    assert len(suspects) == WRONG
    found = sum(row["uid"] in pool[1] for row in suspects)
    assert found / WRONG > 3 * WRONG / SAMPLES, f"{found} of {WRONG}"


def test_the_rest_is_a_subset_to_train_on(client: Client, manifest: Manifest, suspects: list[dict[str, Any]]) -> None:
    content = client.download(manifest.job_id, manifest.selection.id, "subset.npy")
    kept = from_subset(np.load(io.BytesIO(content)))
    assert sorted([*kept, *(row["uid"] for row in suspects)]) == [uid(i) for i in range(SAMPLES)]


def test_the_report_and_the_summary_show_them_first(
    client: Client, manifest: Manifest, suspects: list[dict[str, Any]]
) -> None:
    report = client.report(manifest.job_id).decode()
    assert f"<h1>{WRONG} suspects among {SAMPLES} samples</h1>" in report
    assert report.index('<div id="result">') < report.index("Beside CLIP score")
    inside = re.search(r'id="summary">(.*?)</script>', report, re.DOTALL)
    assert inside is not None
    first = json.loads(inside[1])["sheets"][0]
    assert first["name"] == "suspects"
    assert [sample["uid"] for sample in first["samples"]] == [row["uid"] for row in suspects]
    assert all(sample["thumbnail"] for sample in first["samples"])
    assert all("lowest" in reason for reason in first["reasons"])
