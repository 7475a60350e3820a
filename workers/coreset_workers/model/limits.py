"""Bounds of model configurations, which come from specs and files of others, checked before anything is built."""

import importlib.util
import os
import re
from collections.abc import Iterator
from typing import Any

import open_clip
import torch

from coreset.errors import CheckpointUnusable, LocationForbidden
from coreset.schemas.plan import PlannedModel
from coreset_workers.data import opening as files

MAX_NUMBER = 1_000_000
"""Bound of widths, vocabularies and context lengths; the largest known vocabulary has 256,000 words."""
MAX_LAYERS = 1000
MAX_IMAGE_SIZE = 4096
MAX_ENTRIES = 1000
MAX_DEPTH = 6
BYTES_PER_NUMBER = 4
MAX_SHARE_OF_MEMORY = 0.8

_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_FETCHED = ("hf_model_name", "hf_tokenizer_name", "timm_model_name")
_TOKENIZER_OPTIONS = frozenset({"clean", "strip_sep_token", "context_length"})
_MAX = {"layers": MAX_LAYERS, "image_size": MAX_IMAGE_SIZE, "n_queries": 10_000, "attn_pooler_queries": 10_000}
_POSITIVE = frozenset(
    {"embed_dim", "image_size", "patch_size", "layers", "width", "head_width", "heads", "context_length", "vocab_size"}
)
TOKENIZER_FILES = frozenset({"tokenizer_config.json", "tokenizer.json"})


def check_config(model: PlannedModel) -> None:
    """Check the numbers and names in a configuration, without building anything.

    Raises:
        CheckpointUnusable: it is too large, too deep or has a size below 1; its tokenizer has options that could run
            code, or needs a package that is not installed.
        LocationForbidden: it names a model of a hub, or a folder, that is not allowed.
    """
    for number, (path, value) in enumerate(_entries(model)):
        name = path[-1]
        if number > MAX_ENTRIES or len(path) > MAX_DEPTH:
            raise _unusable(model, "it has too many or too deep entries")
        if path[-2:-1] == ("tokenizer_kwargs",) and name not in _TOKENIZER_OPTIONS:
            raise _unusable(model, f"the tokenizer option {name[:100]} is not allowed")
        if isinstance(value, int | float):
            _check_number(model, name, value)
        if name in _FETCHED and value:
            _check_fetched(name, value)


def _check_number(model: PlannedModel, name: str, value: float) -> None:
    limit = _MAX.get(name, MAX_NUMBER)
    if not abs(value) <= limit:
        raise _unusable(model, f"{name[:100]} is too large: {value}; expected at most {limit:,}")
    if name in _POSITIVE and value < 1:
        raise _unusable(model, f"{name} is {value}; expected at least 1")


def check_tag(name: str, pretrained: str) -> None:
    """Check that the weights of a tag may be fetched; a file is checked when it is opened.

    Raises:
        LocationForbidden: their place is not below the allowed prefixes.
    """
    tag: dict[str, Any] = dict(open_clip.get_pretrained_cfg(name.replace("/", "-"), pretrained))
    uri = f"hf://{tag['hf_hub']}" if tag.get("hf_hub") else tag.get("url")
    if not uri:
        return
    try:
        files.allowed().check(uri)
    except LocationForbidden as error:
        raise LocationForbidden(
            f"the weights {name}/{pretrained} would be fetched from {uri}, which is not below an allowed prefix "
            "(CORESET_ALLOWED_URIS). Give the path of a weights file as `clip_model.pretrained`, or have the operator "
            "allow the address.",
            uri=uri,
        ) from error


def check_size(model: PlannedModel, name: str) -> None:
    """Count the model's numbers on torch's meta device, where it takes no memory.

    Args:
        name: under which open_clip knows the configuration.

    Raises:
        CheckpointUnusable: its weights would not fit into this machine's memory.
    """
    try:
        with torch.device("meta"):
            built = open_clip.create_model(name, device="meta", load_weights=False, pretrained_text=False)
    except Exception:  # it cannot be built, at least not on meta: building it on the CPU gives the reason
        return
    numbers = sum(one.numel() for one in (*built.parameters(), *built.buffers()))
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if BYTES_PER_NUMBER * numbers > MAX_SHARE_OF_MEMORY * there:
        needed = BYTES_PER_NUMBER * numbers / 1e9
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
    if name == "hf_tokenizer_name" and isinstance(value, str) and value.startswith("/"):
        _check_tokenizer_folder(value)
        return
    if not isinstance(value, str) or not _HUB_NAME.fullmatch(value):
        folders = ", or the absolute path of a tokenizer's folder" if name == "hf_tokenizer_name" else ""
        raise LocationForbidden(f"{name} of the model is not a hub's name{folders}: {str(value)[:200]!r}")
    if name != "timm_model_name":
        files.allowed().check(f"hf://{value}")


def _check_tokenizer_folder(folder: str) -> None:
    try:
        names = files.names_in(folder)
        for name in names:  # a link may not lead out of the allowed folders
            files.file_info(f"{folder.rstrip('/')}/{name}")
    except (OSError, ValueError) as error:
        raise CheckpointUnusable(
            f"hf_tokenizer_name: {folder[:200]!r} is not a folder that can be read ({type(error).__name__})", uri=folder
        ) from error
    if not TOKENIZER_FILES & set(names):
        raise CheckpointUnusable(
            f"hf_tokenizer_name: {folder} has no tokenizer_config.json or tokenizer.json. Write them with "
            "`save_pretrained` of the tokenizer, and give that folder.",
            uri=folder,
        )


def require_transformers(model: PlannedModel) -> None:
    """Check that the libraries behind a Hugging Face tokenizer or text tower are installed.

    Raises:
        CheckpointUnusable: they are not; names the extra that has them.
    """
    text = model.config.get("text_cfg")
    names = text if isinstance(text, dict) else {}
    wanted = next((name for name in ("hf_tokenizer_name", "hf_model_name") if names.get(name)), None)
    if wanted and not _is_installed("transformers"):
        raise _unusable(
            model,
            f"its {wanted} {names[wanted]!r} needs the package `transformers`, which this worker lacks. "
            "Install it with: pip install 'coreset-workers[hf]'",
        )


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _unusable(model: PlannedModel, why: str) -> CheckpointUnusable:
    return CheckpointUnusable(f"the architecture {model.name} ({model.source}) is refused: {why}", model=model.name)
