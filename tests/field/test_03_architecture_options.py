"""Options of open_clip's trainer that change the architecture or the images are read from params.txt."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from coreset.errors import CheckpointUnusable
from coreset.schemas.plan import PlannedModel
from coreset.spec.checkpoints import CheckpointsSpec
from coreset.spec.model import ModelSpec
from coreset_workers.checkpoints.files import load
from coreset_workers.checkpoints.run import plan_checkpoints
from coreset_workers.model.clip import ClipModel, view_functions
from diffin.contrastive import LossKind, Pairs
from tests.field.trainer import TINY, TrainedRun

CPU = torch.device("cpu")


def planned(run: TrainedRun, spec: ModelSpec | None = None) -> PlannedModel:
    return plan_checkpoints(CheckpointsSpec(run=str(run.directory)), spec).model


@pytest.fixture(params=["overridden", "locked_siglip", "biased_timm", "lion_coca", "locked_resnet"])
def run(request: pytest.FixtureRequest) -> TrainedRun:
    return request.getfixturevalue(request.param)


def checkpoint(run: TrainedRun) -> str:
    return str(run.directory / "checkpoints" / "epoch_1.pt")


def test_every_run_encodes_as_the_module_that_the_trainer_made(run: TrainedRun) -> None:
    model = planned(run)
    built = ClipModel.build(model, CPU)
    weights = built.weights(load(checkpoint(run)).state_dict, checkpoint(run))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 90, 3), dtype=np.uint8))
    functions = view_functions(model, built.cfg)
    images = torch.from_numpy(functions.image(picture))[None]
    tokens = torch.from_numpy(functions.tokens("a red ball"))[None]
    ids = torch.zeros(1, dtype=torch.int64)
    encoded = built.encoder(weights.fixed)(weights.theta, Pairs(images, tokens, ids, ids))
    expected = run.transform(picture)[None]
    torch.testing.assert_close(built.normalised(images), expected)
    with torch.no_grad():
        image, text = run.module.encode_image(expected, normalize=True), run.module.encode_text(tokens, normalize=True)
    torch.testing.assert_close(encoded.image, image, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoded.text, text, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("custom_text", True),
        ("quick_gelu", True),
        ("vision_cfg.image_size", 48),
        ("vision_cfg.patch_dropout", 0.5),
        ("text_cfg.context_length", 20),
    ],
)
def test_each_override_is_read_beside_a_saved_config(overridden: TrainedRun, path: str, value: object) -> None:
    model = planned(overridden)
    assert model.source == "open_clip_config.json"
    found: Any = model.config
    for name in path.split("."):
        found = found[name]
    assert found == value


@pytest.mark.parametrize("name", ["mean", "std", "interpolation", "resize_mode"])
def test_each_setting_of_images_is_read(overridden: TrainedRun, name: str) -> None:
    found, expected = planned(overridden).preprocess[name], overridden.module.visual.preprocess_cfg[name]
    assert (list(found) if isinstance(found, list) else found) == (
        list(expected) if isinstance(expected, list | tuple) else expected
    )


def test_the_loss_is_the_trainers(locked_siglip: TrainedRun, biased_timm: TrainedRun, lion_coca: TrainedRun) -> None:
    assert ClipModel.build(planned(locked_siglip), CPU).kind is LossKind.SIGLIP
    assert ClipModel.build(planned(biased_timm), CPU).kind is LossKind.INFO_NCE
    assert ClipModel.build(planned(lion_coca), CPU).kind is LossKind.INFO_NCE


def test_a_config_in_the_spec_is_taken_as_it_stands(overridden: TrainedRun) -> None:
    model = planned(overridden, ModelSpec(config={**TINY, "vision_cfg": {**TINY["vision_cfg"], "image_size": 64}}))
    config: Any = model.config
    assert (config["vision_cfg"]["image_size"], config["text_cfg"]["context_length"]) == (64, 16)


def misfit(run: TrainedRun, config: dict[str, Any], source: str) -> str:
    model = ClipModel.build(PlannedModel(name="tiny", config=config, source=source), CPU)
    with pytest.raises(CheckpointUnusable) as caught:
        model.require_fit(load(checkpoint(run)).state_dict, checkpoint(run))
    return caught.value.detail


@pytest.mark.parametrize(
    ("source", "way_out"),
    [
        ("params.txt", "open_clip_config.json into the run's directory"),
        ("open_clip_config.json", "describes another architecture: correct it"),
        ("spec", "Correct `model` in the spec, or leave it out"),
    ],
)
def test_a_misfit_names_the_cause_and_the_way_out(overridden: TrainedRun, source: str, way_out: str) -> None:
    detail = misfit(overridden, TINY, source)
    assert way_out in detail
    assert "custom_text: true" in detail
    larger = {**TINY, "custom_text": True, "text_cfg": {**TINY["text_cfg"], "context_length": 20}}
    assert "vision_cfg.image_size or patch_size differs" in misfit(overridden, larger, source)


def test_other_runs_keep_the_json_of_their_model() -> None:
    model = PlannedModel(name="tiny", config=TINY, source="spec")
    assert set(json.loads(model.model_dump_json())) == {"name", "config", "source", "preprocess", "preprocess_source"}


def test_a_null_bias_in_a_saved_config_does_not_hide_siglip(tmp_path: Path) -> None:
    from coreset_workers.checkpoints.architecture import resolve_model

    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {**TINY, "init_logit_bias": None}}))
    assert resolve_model(None, str(tmp_path), {"siglip": "True"}).config["init_logit_bias"] == -10
