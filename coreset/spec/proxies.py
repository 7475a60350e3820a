"""What a proxy is by default, in one place: a small CLIP that a CPU trains from scratch in seconds to minutes."""

from typing import Any

PROXY_VERSION = 1
"""Raised by every change of the code that changes what a proxy measures: older trials are then not taken for new."""

PROXY_NAME = "proxy"
PROXY_MODEL: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 96, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}
"""open_clip's model config."""

BATCH_SIZE = 128
LEARNING_RATE = 1e-3
PASSES = 5
"""Samples seen, as a multiple of the pool: the same for every selection, however many samples it keeps."""

SEEDS = 3
