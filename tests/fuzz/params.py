"""Seeded mutations of a run's params.txt and open_clip_config.json: planned with finite numbers, or our own error."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from coreset.errors import CheckpointUnusable, LocationForbidden
from coreset.spec.job import CheckpointsSpec
from coreset_workers.checkpoints.run import plan_checkpoints
from coreset_workers.model.limits import check_config
from coreset_workers.model.parameters import trained_parameters

OPTIONS = """
accum_freq=1 batch_size=64 epochs=4 epochs_cooldown=None lr=0.002 lr_cooldown_end=0.0 lr_cooldown_power=1.0
force_context_length=None force_custom_text=False force_image_size=None force_patch_dropout=None force_quick_gelu=False
image_interpolation=None image_mean=None image_resize_mode=None image_std=None lock_image=False
lock_image_unlocked_groups=0 lock_text=False lock_text_unlocked_layers=0 lr_scheduler=cosine model=ViT-B-32 name=a:b
opt=adamw pretrained= siglip=False skip_scheduler=False train_num_samples=640 warmup=7 workers=1 world_size=1
"""
CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
        "text_cfg": {"context_length": 32, "vocab_size": 64, "width": 8, "heads": 1, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "interpolation": "bicubic"},
}
VALUES = [
    *("None", "", "True", "False", "null", "nan", "inf", "-inf", "1e999", "-1", "0", "1e-320", "0x10", "1_0", "10**9"),
    *(
        "[1, 2",
        "{}",
        "(224, 336)",
        "[[1]]",
        '"text"',
        "[" * 5000,
        "9" * 5000,
        "a" * 100_000,
        "\x00",
        "\udc80",
        "\u0663",
    ),
    *("ViT-B-32", "coca_ViT-B-32", "hf-hub:evil/model", "../../etc/passwd", "openai", "laion2b_s34b_b79k"),
    *("const-cooldown", "const"),
]
LEAVES: list[Any] = [None, True, -1, 0, 1e308, 10**30, "text", [], {}, [[]], "\x00", "hf-hub:evil/model", [1] * 2000]


def mutated(seed: int) -> tuple[bytes, bytes | None]:
    """Return params.txt and open_clip_config.json of a seed; None for no such file."""
    random_ = random.Random(seed)
    options = dict(option.split("=", 1) for option in OPTIONS.split())
    for _ in range(random_.choice([1, 1, 2, 5])):
        options[random_.choice(list(options))] = random_.choice(VALUES)
    lines = [f"{name}: {value}\n" for name, value in options.items() if random_.random() < 0.97]
    data = bytearray("".join(lines).encode(errors="surrogateescape"))
    if random_.random() < 0.3:
        for _ in range(random_.choice([1, 4, 32])):
            data[random_.randrange(len(data))] = random_.randrange(256)
    return bytes(data), _mutated_config(random_) if random_.random() < 0.5 else None


def _mutated_config(random_: random.Random) -> bytes:
    config = json.loads(json.dumps(CONFIG))
    for _ in range(random_.choice([0, 1, 2])):
        inner = config
        while True:
            name = random_.choice(list(inner))
            if not isinstance(inner[name], dict) or not inner[name] or random_.random() < 0.2:
                break
            inner = inner[name]
        inner[name] = random_.choice(LEAVES)
    data = bytearray(json.dumps(config).encode())
    if random_.random() < 0.1:
        data[random_.randrange(len(data))] = random_.randrange(256)
    return bytes(data)


def read(folder: Path, files: tuple[bytes, bytes | None]) -> Counter[str]:
    """Plan the checkpoint of a run as a worker does, and count what came of it. Nothing but our own error is raised."""
    params, config = files
    checkpoint, saved = folder / "epoch_1.pt", folder / "open_clip_config.json"
    if not checkpoint.exists():
        torch.save({"state_dict": {"a": torch.ones(1)}, "epoch": 1}, checkpoint)
    (folder / "params.txt").write_bytes(params)
    saved.unlink(missing_ok=True)
    if config is not None:
        saved.write_bytes(config)
    try:
        run = plan_checkpoints(CheckpointsSpec(run=str(folder)), None)
        check_config(run.model)
        if config is not None and len(run.model.config) < 20:
            trained_parameters(run.model, run.locks)
    except (CheckpointUnusable, LocationForbidden):
        return Counter(refused=1)
    for one in run.checkpoints:
        json.dumps(one.model_dump(mode="json"), allow_nan=False)
        json.dumps([one.step.value, one.lr.value, one.lr_sum.value], allow_nan=False)
    json.dumps(run.model.model_dump(mode="json"), allow_nan=False)
    return Counter(planned=1)
