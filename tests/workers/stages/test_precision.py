"""Scopes and precisions through the whole scoring of a pool: what is counted, and in which arithmetic."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

from coreset.schemas.plan import Plan
from coreset.spec.job import JobSpec
from coreset.spec.scores import Score
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage
from coreset_workers.data.loader import Loader
from coreset_workers.influence.prepared_files import Preparation, load_preparation
from coreset_workers.model.precision import PRECISIONS, ladder
from coreset_workers.stages.plan import make_plan
from coreset_workers.stages.prepare import prepare_plan
from coreset_workers.stages.score import score_shard
from coreset_workers.stages.scorer import Scorer

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
FIRST_ORDER = ["diffin", "tracin", "clip_score", "loss"]

Scored = Callable[..., tuple[Preparation, dict[str, NDArray[np.float64]]]]


@pytest.fixture(scope="module")
def scored(scored_spec: JobSpec, loader: Loader, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """Return the preparation and the scores of the first shard, for a spec with some fields changed."""

    def score(**fields: Any) -> tuple[Preparation, dict[str, NDArray[np.float64]]]:
        spec = JobSpec.model_validate(scored_spec.model_dump() | fields)
        plan, _ = make_plan(spec)
        results = Storage(str(tmp_path_factory.mktemp("scored")))
        prepare_plan(plan, results, loader, CPU, lambda stage, fraction: None)
        score_shard(Scorer(plan, results, CPU), loader, plan.shards[0], lambda fraction: None)
        preparation = load_preparation(results, plan)
        assert preparation is not None
        return preparation, columns(results, plan)

    return score


def columns(results: Storage, plan: Plan) -> dict[str, NDArray[np.float64]]:
    table = pq.read_table(results.path(PlanFolder(plan.id).part(0)))
    kept = table.filter(table["status"].combine_chunks().to_numpy(zero_copy_only=False) == "ok")
    return {score.value: kept[score.value].to_numpy().astype(float) for score in plan.scores}


def assert_same(found: NDArray[np.float64], expected: NDArray[np.float64], share: float) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=share * np.abs(expected).max())


@pytest.fixture(scope="module")
def in_float32(scored: Scored) -> dict[str, NDArray[np.float64]]:
    preparation, found = scored(scores=FIRST_ORDER, select={"k": 40})
    assert preparation.precision == "float32"
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("name", "share"), [pytest.param("tf32", 1e-3, marks=pytest.mark.slow), ("bfloat16", 0.05)])
def test_slopes_in_forward_mode_are_the_differences_in_float32(
    scored: Scored, in_float32: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str, share: float
) -> None:
    """A CPU has no TF32, so that rung is forward mode in float32 here; bfloat16 is what it is on a GPU."""
    monkeypatch.setattr("coreset_workers.stages.calibrate.ladder", lambda device, scores: [name])
    monkeypatch.setattr("coreset_workers.stages.calibrate.WORST_ERROR", 0.1 if name == "bfloat16" else 0.02)
    preparation, found = scored(scores=FIRST_ORDER, select={"k": 40})
    assert preparation.precision == name
    assert preparation.steps == [{}, {}]
    for score in FIRST_ORDER:
        assert_same(found[score], in_float32[score], share)


@pytest.mark.slow
def test_a_precision_that_fails_the_gate_gives_way_to_the_next(
    scored: Scored, in_float32: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coreset_workers.stages.calibrate.ladder", lambda device, scores: ["bfloat16", "float32"])
    monkeypatch.setattr("coreset_workers.stages.calibrate.WORST_ERROR", 1e-3)
    preparation, found = scored(scores=FIRST_ORDER, select={"k": 40})
    assert preparation.precision == "float32"
    assert {"bfloat16", "float32"} < preparation.seconds.keys()
    for score in FIRST_ORDER:
        np.testing.assert_array_equal(found[score], in_float32[score])


def test_all_parameters_by_name_are_all(scored: Scored, in_float32: dict[str, Any]) -> None:
    preparation, found = scored(scores=FIRST_ORDER, select={"k": 40}, parameters={"names": ["*"]})
    assert preparation.parameters_counted == preparation.parameters_total
    for score in FIRST_ORDER:
        assert_same(found[score], in_float32[score], 1e-5)


@pytest.mark.slow
def test_a_scope_counts_fewer_parameters_and_its_trunk_changes_no_digit(
    scored: Scored, in_float32: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    preparation, found = scored(parameters={"last_blocks": 1})
    assert preparation.parameters_counted < preparation.parameters_total
    assert all(accuracy.spearman > 0.999 for accuracy in preparation.accuracy.values())
    monkeypatch.setattr("coreset_workers.influence.passes.trunk_run_once", lambda frozen: nullcontext())
    _, plainly = scored(parameters={"last_blocks": 1})
    for score in found:
        np.testing.assert_array_equal(found[score], plainly[score])
    assert np.abs(found["diffin"] - in_float32["diffin"]).max() > 1e-3 * np.abs(in_float32["diffin"]).max()
    assert_same(found["clip_score"], in_float32["clip_score"], 1e-5)


def test_the_ladder() -> None:
    assert ladder(CPU, list(Score)) == ladder(CUDA, list(Score)) == ["float32", "float64"]
    assert ladder(CPU, [Score.DIFFIN]) == ["float32", "float32, forward mode", "float64"]
    assert ladder(CUDA, [Score.DIFFIN, Score.LOSS]) == ["bfloat16", "tf32", *ladder(CPU, [Score.DIFFIN])]
    assert ladder(CUDA, [Score.CLIP_SCORE]) == ["float32"]


def test_tf32_is_allowed_within_its_precision_only() -> None:
    with PRECISIONS["tf32"].kernels():
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.allow_tf32
