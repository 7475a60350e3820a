"""A tiny pool, planned, prepared and scored in this process, once for all tests of what is made of it."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from coreset.schemas.manifest import ShardSummary
from coreset.schemas.part import SampleStatus
from coreset.schemas.plan import Plan
from coreset.spec.job import JobSpec
from coreset.spec.scores import SCORES, Score
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage
from coreset_workers.data.loader import Loader
from coreset_workers.model.inputs import views
from coreset_workers.stages.plan import make_plan
from coreset_workers.stages.prepare import prepare_plan
from coreset_workers.stages.score import score_shard
from coreset_workers.stages.scorer import Scorer


@pytest.fixture(scope="session")
def scored_spec(tiny_pool: Path, tiny_run: Path) -> JobSpec:
    return JobSpec.model_validate(
        {
            "pool": {"shards": [str(tiny_pool / "{000000..000005}.tar")], "metadata": ["uid", "nothing"]},
            "checkpoints": {"run": str(tiny_run)},
            "reference": {"size": 24},
            "scores": [score for score in SCORES if score is not Score.SELF_INFLUENCE],
            "select": {"k": 40},
        }
    )


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return Storage(str(tmp_path_factory.mktemp("results")))


@pytest.fixture(scope="session")
def plan(scored_spec: JobSpec) -> Plan:
    found, warnings = make_plan(scored_spec)
    assert warnings == []
    return found


@pytest.fixture(scope="session")
def loader(plan: Plan) -> Loader:
    return Loader(views(plan), plan.caption_field, processes=0, metadata=plan.metadata)


@pytest.fixture(scope="session")
def scorer(plan: Plan, results: Storage, loader: Loader) -> Scorer:
    """Ready to score shards by the plan, which is prepared."""
    device = torch.device("cpu")
    prepare_plan(plan, results, loader, device, lambda stage, fraction: None)
    return Scorer(plan, results, device)


@pytest.fixture(scope="session")
def summaries(plan: Plan, scorer: Scorer, loader: Loader) -> list[ShardSummary]:
    """The outcome of scoring every shard of the plan."""
    return [score_shard(scorer, loader, shard, lambda fraction: None) for shard in plan.shards]


@pytest.fixture(scope="session")
def parts(plan: Plan, results: Storage, summaries: list[ShardSummary]) -> list[pa.Table]:
    """The plan's parts as tables."""
    return [pq.read_table(results.path(PlanFolder(plan.id).part(summary.shard))) for summary in summaries]


@pytest.fixture(scope="session")
def rows(parts: list[pa.Table]) -> list[dict[str, Any]]:
    """All rows of all parts."""
    return [row for part in parts for row in part.to_pylist()]


@pytest.fixture(scope="session")
def good(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that have scores."""
    return [row for row in rows if row["status"] == SampleStatus.OK]
