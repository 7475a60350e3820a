"""Fixtures of the service's tests, and training runs with options from the field, each trained once for the session."""

import json
from pathlib import Path

import pytest

from tests.field.trainer import TINY, TrainedRun, train
from tests.service.conftest import api, app, succeeded
from tests.workers.stages.towers import RESNET, TIMM, configs

__all__ = ["api", "app", "succeeded"]

IMAGES = ("--image-mean", "0.5", "0.4", "0.3", "--image-std", "0.2", "0.3", "0.4")
OVERRIDES = (
    *("--force-custom-text", "--force-quick-gelu", "--force-patch-dropout", "0.5", *IMAGES),
    *("--force-image-size", "48", "--force-context-length", "20"),
    *("--image-interpolation", "bilinear", "--image-resize-mode", "longest"),
)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def overridden(runs: Path) -> TrainedRun:
    """A run with every option that overrides the architecture or the images, beside the config it started from."""
    run = train(runs, "overridden", TINY, *OVERRIDES)
    (run.directory / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY}))
    return run


@pytest.fixture(scope="session")
def locked_siglip(runs: Path) -> TrainedRun:
    """A run with SigLIP's loss whose image tower is locked."""
    return train(runs, "locked", TINY, "--siglip", "--lock-image")


@pytest.fixture(scope="session")
def biased_timm(runs: Path) -> TrainedRun:
    """A run with a timm tower of another size and timm's AdamW, with a logit bias but CLIP's loss."""
    config = {**TINY, "vision_cfg": TIMM, "custom_text": True, "init_logit_bias": -2.0}
    return train(runs, "timm-tower", config, "--force-image-size", "64", "--opt", "timm/adamw", "--eps", "1e-8")


@pytest.fixture(scope="session")
def lion_coca(runs: Path) -> TrainedRun:
    """A CoCa trained by Lion."""
    return train(runs, "coca-tiny", configs(49408)["coca"], "--opt", "timm/lion")


@pytest.fixture(scope="session")
def locked_resnet(runs: Path) -> TrainedRun:
    """A run with a locked ResNet, its statistics frozen, and a locked text tower."""
    options = ("--lock-image", "--lock-image-freeze-bn-stats", "--lock-text", "--lock-text-freeze-layer-norm")
    return train(runs, "locked-resnet", {**TINY, "vision_cfg": RESNET}, *options)
