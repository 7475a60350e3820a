"""Tokenizers of models: open_clip's own, or a Hugging Face one from a hub or a local folder."""

from functools import cache
from typing import Any

import open_clip
from open_clip.tokenizer import SigLipTokenizer

from coreset.errors import CheckpointUnusable, CoresetError
from coreset.schemas.plan import PlannedModel
from coreset_workers.data.opening import allowed
from coreset_workers.model.limits import check_config, require_transformers


def load_tokenizer(model: PlannedModel, name: str) -> Any:
    """Return the tokenizer of a model: captions -> (n, L) int64.

    Args:
        name: under which open_clip knows the configuration.

    Raises:
        CheckpointUnusable: it cannot be loaded, or needs a package that is not installed.
        LocationForbidden: it would be fetched from a place that is not allowed.
    """
    check_config(model)
    require_transformers(model)
    text: Any = model.config.get("text_cfg") or {}
    source = text.get("hf_tokenizer_name") if isinstance(text, dict) else None
    if not source and "siglip" in name.lower():  # open_clip then fetches a vocabulary by http
        source = next(iter(SigLipTokenizer.VOCAB_FILES.values()))
        allowed().check(source)
    if not source:
        return _load(name)
    try:
        return _load(name, trust_remote_code=False) if source == text.get("hf_tokenizer_name") else _load(name)
    except CoresetError:
        raise
    except Exception as error:  # transformers raises all kinds, of a hub out of reach and of damaged files
        raise CheckpointUnusable(
            f"the tokenizer {source} of {model.name} cannot be loaded ({type(error).__name__}). Save it with its "
            "`save_pretrained` to a folder that the workers can read, and give `model` with a `config` whose "
            "text_cfg.hf_tokenizer_name is the absolute path of that folder.",
            model=model.name,
        ) from error


@cache
def _load(name: str, **options: Any) -> Any:
    return open_clip.get_tokenizer(name, **options)
