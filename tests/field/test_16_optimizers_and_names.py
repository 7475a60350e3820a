"""Optimizers other than Adam get a true message; impossible names and sizes are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from coreset.errors import CheckpointUnusable
from coreset.schemas.plan import PlannedModel
from coreset.spec.checkpoints import CheckpointFile, CheckpointsSpec
from coreset.spec.model import ClipModelSpec, ModelSpec
from coreset_workers.checkpoints.files import load
from coreset_workers.checkpoints.optimizer import adam_preconditioner, is_adam
from coreset_workers.checkpoints.run import plan_checkpoints
from coreset_workers.model.clip import ClipModel, build
from tests.field.trainer import TINY, TrainedRun


def test_a_step_that_lion_does_not_count_is_asked_for_by_its_cause(lion_coca: TrainedRun, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "epoch_1.pt").symlink_to(lion_coca.directory / "checkpoints" / "epoch_1.pt")
    lines = (lion_coca.directory / "params.txt").read_text().splitlines()
    (tmp_path / "params.txt").write_text("\n".join(line for line in lines if "train_num_samples" not in line))
    with pytest.raises(CheckpointUnusable, match="the state of timm/lion counts no steps") as caught:
        plan_checkpoints(CheckpointsSpec(run=str(tmp_path)), None)
    assert "Released weights" not in caught.value.detail


def test_lion_is_named_where_its_preconditioner_is_missing(lion_coca: TrainedRun) -> None:
    found = plan_checkpoints(CheckpointsSpec(run=str(lion_coca.directory)), None)
    assert found.checkpoints[0].step.value == 2
    assert found.checkpoints[0].optimizer is None
    (warning,) = [warning for warning in found.warnings if "P = 1" in warning]
    assert "timm/lion" in warning
    assert "no optimizer state" not in warning


def test_timms_adamw_is_adam_in_an_order_of_its_own(biased_timm: TrainedRun) -> None:
    found = plan_checkpoints(CheckpointsSpec(run=str(biased_timm.directory)), None)
    (checkpoint,) = found.checkpoints
    assert checkpoint.optimizer == "adamw"
    assert [warning for warning in found.warnings if "P = 1" in warning] == []
    shapes = ClipModel.build(found.model, torch.device("cpu")).shapes
    state = load(checkpoint.uri).optimizer
    counted = [name for name in shapes if name != "logit_bias"]  # CLIP's loss does not move it
    p = adam_preconditioner(state, shapes, counted)
    assert p is not None
    assert set(p) == set(counted)


@pytest.mark.parametrize(
    ("opt", "keys", "group", "adam"),
    [
        ("adamw", {"step", "exp_avg", "exp_avg_sq"}, {}, True),
        (None, {"step", "exp_avg", "exp_avg_sq"}, {}, True),
        ("timm/lamb", {"step", "exp_avg", "exp_avg_sq"}, {}, False),
        (None, {"step", "exp_avg", "exp_avg_sq"}, {"trust_clip": False}, False),
        (None, {"step", "exp_avg", "exp_avg_sq", "exp_avg_diff"}, {}, False),
        (None, {"exp_avg"}, {}, False),
        (None, {"momentum_buffer"}, {}, False),
    ],
)
def test_relatives_of_adam_are_not_taken_for_it(opt: str | None, keys: set[str], group: dict, adam: bool) -> None:
    state = {"state": {0: dict.fromkeys(keys, torch.ones(1))}, "param_groups": [{"params": [0], **group}]}
    assert is_adam(state, opt) is adam


def test_a_file_without_optimizer_says_so(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(1)}}, tmp_path / "a.pt")
    file = CheckpointFile(uri=str(tmp_path / "a.pt"), step=3, lr=0.1)
    found = plan_checkpoints(CheckpointsSpec(files=[file]), ModelSpec(config=TINY))
    assert found.warnings == ["the checkpoints hold no optimizer state: diffin takes the run for plain SGD (P = 1)"]


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "\x7f"])
def test_control_characters_in_the_name_of_a_model_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="String should match pattern"):
        ModelSpec(name=name)
    with pytest.raises(ValidationError, match="String should match pattern"):
        ClipModelSpec(name=name, pretrained="openai")


@pytest.mark.parametrize("name", ["é" * 200, "x" * 200, "a b/c:d", "..", "~"])
def test_odd_names_of_a_model_are_labels_only(name: str) -> None:
    build(PlannedModel(name=name, config=TINY, source="spec"))


@pytest.mark.parametrize(
    ("tower", "field", "value"),
    [
        ("vision_cfg", "image_size", 0),
        ("vision_cfg", "image_size", -32),
        ("vision_cfg", "image_size", [32, 0]),
        ("vision_cfg", "patch_size", 0),
        ("vision_cfg", "layers", 0),
        ("vision_cfg", "head_width", 0),
        ("text_cfg", "heads", 0),
        ("text_cfg", "context_length", 0),
        ("text_cfg", "vocab_size", 0),
    ],
)
def test_sizes_below_one_are_refused_by_name(tower: str, field: str, value: Any) -> None:
    config = {**TINY, tower: {**TINY[tower], field: value}}
    with pytest.raises(CheckpointUnusable, match=rf"{field} is -?\d+; expected at least 1"):
        build(PlannedModel(name="tiny", config=config, source="spec"))
