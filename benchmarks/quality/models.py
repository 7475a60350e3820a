"""The small CLIP that the pools' training runs and the proxies have in common."""

from typing import Any

from coreset.schemas.plan import PlannedModel

SIDE = 32
CONFIG: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
PROXY = PlannedModel(name="proxy", config=CONFIG, source="benchmark", preprocess={"resize_mode": "squash"})
