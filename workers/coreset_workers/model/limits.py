"""Model configurations come from specs and files of others: they are looked at before anything is built from them."""

import os
import re
from collections.abc import Iterator
from typing import Any

import open_clip
import torch

from coreset.errors import CheckpointUnusable, LocationForbidden
from coreset.schemas.plan import PlannedModel
from coreset_workers.data import opening as files

LARGEST_NUMBER = 1_000_000
"""Of widths, vocabularies, context lengths; the largest known vocabulary has 256,000 words."""
MOST_LAYERS = 1000
LARGEST_IMAGE_SIZE = 4096
MOST_ENTRIES = 1000
BYTES_A_NUMBER = 4
SHARE_OF_MEMORY = 0.8

_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_FETCHED = ("hf_model_name", "hf_tokenizer_name", "timm_model_name")
_TOKENIZER_OPTIONS = frozenset({"clean", "strip_sep_token", "context_length"})
_MOST = {"layers": MOST_LAYERS, "image_size": LARGEST_IMAGE_SIZE, "n_queries": 10_000, "attn_pooler_queries": 10_000}


def check_config(model: PlannedModel) -> None:
    """Look at what a configuration says, without building anything.

    Raises:
        CheckpointUnusable: it is too large or too deep, or its tokenizer has options that could run code.
        LocationForbidden: it names a model of a hub that is not allowed, or a local file as one.
    """
    for number, (path, value) in enumerate(_entries(model)):
        name = path[-1]
        if number > MOST_ENTRIES or len(path) > 6:
            raise _unusable(model, "it has too many or too deep entries")
        if path[-2:-1] == ("tokenizer_kwargs",) and name not in _TOKENIZER_OPTIONS:
            raise _unusable(model, f"the tokenizer option {name[:100]} is not taken")
        if isinstance(value, int | float) and not abs(value) <= _MOST.get(name, LARGEST_NUMBER):
            raise _unusable(model, f"{name[:100]} is too large")
        if name in _FETCHED and value:
            _check_fetched(name, value)


def check_size(model: PlannedModel, name: str) -> None:
    """Count the model on torch's meta device, where it takes no memory.

    Args:
        name: under which open_clip knows the configuration.

    Raises:
        CheckpointUnusable: its weights would not fit into this machine's memory.
    """
    try:
        with torch.device("meta"):
            built = open_clip.create_model(name, device="meta", load_weights=False, pretrained_text=False)
    except Exception:  # it cannot be built, or not on meta: building it for real says why
        return
    numbers = sum(one.numel() for one in (*built.parameters(), *built.buffers()))
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if BYTES_A_NUMBER * numbers > SHARE_OF_MEMORY * there:
        needed = BYTES_A_NUMBER * numbers / 1e9
        raise _unusable(model, f"its weights take {needed:,.0f} GB, and this machine has {there / 1e9:,.0f} GB")


def _entries(model: PlannedModel) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the leaves of the configuration with their paths; of lists as if each entry stood alone."""
    waiting: list[tuple[tuple[str, ...], Any]] = [(("config",), model.config)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [((*path, str(name)), inner) for name, inner in value.items()]
        elif isinstance(value, list) and path[-1] == "layers":
            yield path, sum(one for one in value if isinstance(one, int))
        elif isinstance(value, list):
            waiting += [(path, inner) for inner in value]
        else:
            yield path, value


def _check_fetched(name: str, value: Any) -> None:
    if not isinstance(value, str) or not _HUB_NAME.fullmatch(value):
        raise LocationForbidden(f"{name} of the model is not a hub's name: {str(value)[:200]}")
    if name != "timm_model_name":
        files.allowed().check(f"hf://{value}")


def _unusable(model: PlannedModel, why: str) -> CheckpointUnusable:
    return CheckpointUnusable(f"the architecture {model.name} ({model.source}) is refused: {why}", model=model.name)
