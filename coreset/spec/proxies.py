"""Defaults of proxies: a small CLIP that a CPU trains from scratch in seconds to minutes."""

from typing import Any

PROXY_VERSION = 1
"""Version of proxies; raise it with every change that changes their results, so that no older trial is reused."""

PROXY_NAME = "proxy"
PROXY_MODEL: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 96, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}
"""The proxies' model config, as open_clip reads it."""

BATCH_SIZE = 128
LEARNING_RATE = 1e-3
PASSES = 5
"""Samples seen as a multiple of the pool, the same for every selection whatever its size."""

SEEDS = 3
