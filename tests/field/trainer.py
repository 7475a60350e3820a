"""Runs of open_clip's own trainer on its synthetic data, two steps each, with any of its options."""

import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip_train import main as trainer

TINY: dict[str, Any] = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}


@dataclass(frozen=True)
class TrainedRun:
    """A run's directory, and the module and the transform for evaluation that the trainer made and used."""

    directory: Path
    module: Any
    transform: Callable[..., torch.Tensor]


def train(folder: Path, name: str, config: dict[str, Any], *options: str) -> TrainedRun:
    """Train a model with `config` for two steps below a folder, with options of the trainer's command line."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    made: list[Any] = []
    create = trainer.create_model_and_transforms

    def recording(*arguments: Any, **named: Any) -> Any:
        made.append(create(*arguments, **named))
        return made[-1]

    fixed = {
        "dataset-type": "synthetic",
        "train-num-samples": 8,
        "batch-size": 4,
        "epochs": 1,
        "workers": 0,
        "warmup": 1,
        "model": name,
        "device": "cpu",
        "precision": "fp32",
        "logs": folder,
        "name": f"run-{name}",
        "lr": 1e-3,
    }
    words = [word for option, value in fixed.items() for word in (f"--{option}", str(value))]
    before, level = list(logging.root.handlers), logging.root.level
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'pin_memory' argument", UserWarning)
        patch.setattr(trainer, "create_model_and_transforms", recording)
        trainer.main([*words, *options])
    for handler in [handler for handler in logging.root.handlers if handler not in before]:  # the trainer's own
        logging.root.removeHandler(handler)
        handler.close()
    logging.root.setLevel(level)
    module, _, transform = made[0]
    return TrainedRun(folder / f"run-{name}", module.eval(), transform)
