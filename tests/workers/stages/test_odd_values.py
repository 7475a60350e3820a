"""Odd checkpoints and pools through the whole preparation: refused with a reason, or scored with a warning."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from coreset.errors import AccuracyNotMet, CheckpointUnusable, PoolUnusable
from coreset.schemas.problems import error_classes
from coreset.spec.job import JobSpec
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage
from coreset_workers.data.loader import Loader
from coreset_workers.influence.prepared_files import Preparation, load_preparation
from coreset_workers.model.inputs import views
from coreset_workers.stages.plan import make_plan
from coreset_workers.stages.prepare import prepare_plan
from coreset_workers.stages.score import score_shard
from coreset_workers.stages.scorer import Scorer

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
FIRST = ["tracin", "clip_score"]


@dataclass(frozen=True)
class Outcome:
    warnings: list[str]
    preparation: Preparation
    part: pa.Table


Score = Callable[..., Outcome]


@pytest.fixture
def score(scored_spec: JobSpec, tmp_path: Path) -> Score:
    """Plan, prepare and score the first shard of a spec with some fields changed."""

    def run(**fields: Any) -> Outcome:
        spec = JobSpec.model_validate(scored_spec.model_dump() | {"select": {"k": 4, "by": "clip_score"}} | fields)
        plan, warnings = make_plan(spec)
        storage, loader = Storage(str(tmp_path / "results")), Loader(views(plan), None, processes=0)
        prepare_plan(plan, storage, loader, CPU, lambda stage, fraction: None)
        score_shard(Scorer(plan, storage, CPU), loader, plan.shards[0], lambda fraction: None)
        preparation = load_preparation(storage, plan)
        assert preparation is not None
        return Outcome(warnings, preparation, pq.read_table(storage.path(PlanFolder(plan.id).part(0))))

    return run


@pytest.fixture
def files(tiny_run: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The run's checkpoints as a list of files, with other learning rates in their optimizers."""

    def listed(*lrs: float, epochs: tuple[int, ...] = (1, 2)) -> dict[str, Any]:
        found = []
        for number, (lr, epoch) in enumerate(zip(lrs, epochs, strict=True), 1):
            content = torch.load(tiny_run / "checkpoints" / f"epoch_{epoch}.pt", weights_only=True)
            for group in content["optimizer"]["param_groups"]:
                group["lr"] = lr
            torch.save(content, tmp_path / f"epoch_{number}.pt")
            found.append({"uri": str(tmp_path / f"epoch_{number}.pt"), "step": 10 * number})
        return {"checkpoints": {"files": found}, "model": {"config": _config(tiny_run)}}

    return listed


def _config(run: Path) -> dict[str, Any]:
    return json.loads((run / "open_clip_config.json").read_text())["model_cfg"]


def column(outcome: Outcome, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    kept = outcome.part.filter(pa.compute.equal(outcome.part["status"], "ok"))
    return np.array(kept[name].to_pylist(), dtype=float)


def test_a_last_learning_rate_of_zero_leaves_its_checkpoint_out_of_tracin_and_eq9(score: Score, files: Any) -> None:
    found = score(**files(1e-3, 0.0), scores=["diffin", "diffin_eq9", "tracin", "clip_score"])
    assert any("learning rate is 0; it adds nothing to tracin and diffin_eq9" in w for w in found.warnings)
    for name in ("tracin", "diffin_eq9"):
        terms = column(found, f"{name}_by_checkpoint")
        assert terms[:, 0].any()
        assert not terms[:, 1].any()
    assert column(found, "diffin_by_checkpoint")[:, 1].all()
    assert [set(steps) for steps in found.preparation.steps] == [{"diffin", "diffin_eq9", "tracin"}, {"diffin"}]


@pytest.mark.slow
def test_a_segment_without_learning_has_no_influence(score: Score, files: Any) -> None:
    found = score(**files(0.0, 1e-3), scores=["diffin", "clip_score"])
    assert any("epoch_1.pt: the learning rates of the steps before it sum to 0" in w for w in found.warnings)
    assert any("epoch_1.pt: the influence direction is 0" in w for w in found.preparation.warnings)
    terms = column(found, "diffin_by_checkpoint")
    assert not terms[:, 0].any()
    assert terms[:, 1].all()


def test_a_training_that_never_learned_ranks_nothing_and_says_so(score: Score, files: Any) -> None:
    found = score(**files(0.0, 0.0), scores=["diffin", "tracin", "clip_score"])
    assert not column(found, "diffin").any()
    assert not column(found, "tracin").any()
    assert column(found, "clip_score").all()
    for name in ("diffin", "tracin"):
        assert any(w.startswith(f"{name} is one and the same number for the 32 ") for w in found.preparation.warnings)
    assert all(a.spearman is None for a in found.preparation.accuracy.values())


def test_a_checkpoint_that_holds_the_weights_of_the_one_before_is_told(score: Score, files: Any) -> None:
    found = score(**files(1e-3, 1e-3, epochs=(1, 1)), scores=FIRST)
    assert any("holds the same weights as" in warning for warning in found.preparation.warnings)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_refuse_their_checkpoint(
    score: Score, files: Any, tiny_run: Path, tmp_path: Path, value: float
) -> None:
    content = torch.load(tiny_run / "checkpoints/epoch_2.pt", weights_only=True)
    content["state_dict"]["visual.proj"][0, 0] = value
    torch.save(content, tmp_path / "bad.pt")
    fields = files(1e-3, 1e-3)
    fields["checkpoints"]["files"][1]["uri"] = str(tmp_path / "bad.pt")
    with pytest.raises(CheckpointUnusable, match=r"bad\.pt: the norm of the parameters \(.*\) is not finite") as caught:
        score(**fields, scores=FIRST)
    assert caught.value.data == {"uri": str(tmp_path / "bad.pt")}


@pytest.mark.parametrize("scores", [["diffin", "clip_score"], FIRST])
def test_a_gradient_that_is_not_finite_refuses_its_checkpoint(
    score: Score, files: Any, tiny_run: Path, tmp_path: Path, scores: list[str]
) -> None:
    """Finite weights whose scale overflows: the training diverged, though each number is one."""
    content = torch.load(tiny_run / "checkpoints/epoch_2.pt", weights_only=True)
    content["state_dict"]["logit_scale"].fill_(500.0)
    torch.save(content, tmp_path / "bad.pt")
    fields = files(1e-3, 1e-3)
    fields["checkpoints"]["files"][1]["uri"] = str(tmp_path / "bad.pt")
    with pytest.raises(CheckpointUnusable, match=r"bad\.pt: .* is not finite, so the training diverged"):
        score(**fields, scores=scores)


def test_an_accuracy_that_no_precision_meets_has_a_reason_of_its_own(
    score: Score, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coreset_workers.stages.calibrate.WORST_ERROR", 0.0)
    with pytest.raises(AccuracyNotMet, match=r"float32: tracin has Spearman \d.*, cosine .* float64: tracin") as caught:
        score(**files(1e-3, 1e-3), scores=FIRST)
    assert error_classes()["accuracy-not-met"] is AccuracyNotMet
    figures = caught.value.data["accuracy"]
    assert figures.keys() == {"float32", "float32, forward mode", "float64"}
    assert figures["float64"]["tracin"]["worst_relative_error"] < figures["float32"]["tracin"]["worst_relative_error"]
    assert figures["float32"]["tracin"]["samples"] == 32


def test_a_precision_that_was_raised_is_told_with_the_figures(
    score: Score, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coreset_workers.stages.calibrate.WORST_ERROR", 1e-7)
    found = score(**files(1e-3, 1e-3), scores=FIRST)
    assert found.preparation.precision == "float64"
    assert any(w.startswith("float32 is not exact enough: tracin has Spearman") for w in found.preparation.warnings)
    assert found.preparation.accuracy["tracin"].worst_relative_error <= 1e-7
    assert all(steps["tracin"].error < 1e-6 for steps in found.preparation.steps)


def write_shard(path: Path, captions: list[str]) -> None:
    numbers = np.random.default_rng(0)
    with tarfile.open(path, "w") as tar:
        for row, caption in enumerate(captions):
            picture = io.BytesIO()
            Image.fromarray(numbers.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(picture, "PNG")
            for name, data in ((f"{row:03d}.png", picture.getvalue()), (f"{row:03d}.txt", caption.encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def test_a_reference_batch_of_one_caption_has_no_loss(score: Score, tmp_path: Path) -> None:
    write_shard(tmp_path / "same.tar", ["a red star"] * 12)
    with pytest.raises(PoolUnusable, match=r"the reference batch holds 6 samples with one caption, 'a red star'"):
        score(pool={"shards": [str(tmp_path / "same.tar")]}, scores=FIRST)


def test_validation_samples_of_one_caption_have_no_loss(score: Score, tmp_path: Path) -> None:
    write_shard(tmp_path / "same.tar", ["a red star"] * 12)
    with pytest.raises(PoolUnusable, match="the validation samples holds 12 samples with one caption"):
        score(target={"pool": {"shards": [str(tmp_path / "same.tar")]}, "size": 12}, scores=FIRST)


def test_two_samples_are_too_few(score: Score, tmp_path: Path) -> None:
    write_shard(tmp_path / "two.tar", ["a red star", "a blue ring"])
    with pytest.raises(PoolUnusable, match="only 2 good samples were found"):
        score(pool={"shards": [str(tmp_path / "two.tar")]}, scores=FIRST)


def test_a_pool_too_small_for_all_probes_is_scored_with_a_warning(score: Score, tmp_path: Path) -> None:
    write_shard(tmp_path / "few.tar", [f"{number} red stars" for number in range(9)])
    found = score(pool={"shards": [str(tmp_path / "few.tar")]}, scores=FIRST)
    assert any("accuracy were measured on 5 samples" in w for w in found.preparation.warnings)
    assert found.preparation.accuracy["tracin"].samples == 5
    assert set(found.part["status"].to_pylist()) == {"ok"}
