"""A job without a training run: CLIP scores by a weights file, checked, served, and on the page."""

from pathlib import Path
from typing import Any

import httpx
import open_clip
import pyarrow.parquet as pq
import pytest
import torch

from coreset.client import Client
from coreset.errors import InvalidSpec
from coreset.local.stack import LocalStack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MODEL = "ViT-S-32-alt"
SCORES = ["clip_score", "neg_clip_loss", "random"]


@pytest.fixture(scope="module")
def baseline(tiny_pool: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    weights = tmp_path_factory.mktemp("weights") / "clip.pt"
    torch.manual_seed(0)
    torch.save(open_clip.create_model(MODEL).state_dict(), weights)
    return {
        "pool": {"shards": [str(tiny_pool / "000000.tar")]},
        "clip_model": {"name": MODEL, "pretrained": str(weights)},
        "reference": {"size": 8},
        "clusters": 4,
        "scores": SCORES,
        "select": {"k": 10, "by": "clip_score"},
    }


def test_a_pool_without_a_run_is_scored_by_one_pass_a_sample(
    client: Client, stack: LocalStack, baseline: dict[str, Any]
) -> None:
    announced = client.check(baseline)
    assert (announced.time.forwards, announced.checkpoints, announced.parameters_counted) == (1, [], 0)
    served = client.result(client.wait(client.submit(baseline).id, timeout=200).id)
    assert served.plan_id == announced.plan_id
    assert (served.checkpoints, served.accuracy, served.steps) == ([], {}, [])
    assert list(served.comparisons) == SCORES
    part = pq.read_table(served.parts[0].uri)
    assert not [name for name in part.column_names if "diffin" in name or name.endswith("_by_checkpoint")]
    assert len(set(part["cluster"].to_pylist())) > 1
    assert served.report is not None
    report = Path(served.report.uri).read_text()
    assert "No training run" in report
    assert "Diff-In" not in report.split("<script")[0]
    assert httpx.get(f"{stack.url}/jobs/{served.job_id}").status_code == 200
    summary = httpx.get(f"{stack.url}/v1/jobs/{served.job_id}/summary").json()
    assert [ranking["name"] for ranking in summary["rankings"]] == [*SCORES, "selection"]


def test_a_score_that_needs_the_run_is_named(client: Client, baseline: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec, match="loss: these scores need a training run"):
        client.submit({**baseline, "scores": [*SCORES, "loss"]})
