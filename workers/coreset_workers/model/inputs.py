"""Inputs of a plan's models: tensors of samples, and the weights behind the CLIP score."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import open_clip
import torch
from torch import Tensor

from coreset.errors import CheckpointUnusable
from coreset.schemas.plan import Plan, PlannedModel
from coreset_workers.checkpoints import files as checkpoint_files
from coreset_workers.data.decode import Sample
from coreset_workers.data.loader import Block, View
from coreset_workers.data.opening import file_info
from coreset_workers.model.clip import ClipModel, Weights, build, preprocess_cfg, register, view_functions
from coreset_workers.model.limits import check_tag
from coreset_workers.model.tokenizers import load_tokenizer
from diffin.contrastive import Pairs

RUN, CLIP = "run", "clip"
"""Views: the run's own model, and the CLIP-score model if it is another one."""


def views(plan: Plan) -> dict[str, View]:
    """Return the preprocessing and tokenization of each model that scores samples of the plan."""
    found = {RUN: view_of(plan.model)} if plan.checkpoints else {}
    if plan.clip_model is not None:
        found[CLIP] = view_of(plan.clip_model)
    return found


def view_of(model: PlannedModel) -> View:
    """Return the preprocessing and tokenization of a model.

    Raises:
        CheckpointUnusable: the model cannot be built, or its tokenizer cannot be loaded; a loader process that failed
            for that could not say why.
        LocationForbidden: one of them would be fetched from a place that is not allowed.
    """
    built = build(model)
    load_tokenizer(model, register(model))
    return partial(view_functions, model, preprocess_cfg(model, built))


def pairs_of_block(block: Block, view: str) -> Pairs:
    good = [block.samples[i] for i in block.good]
    return Pairs(block.images[view], block.tokens[view], *_identities(good))


def pairs_of_samples(samples: Sequence[Sample], view: str) -> Pairs:
    images, tokens = (
        torch.from_numpy(np.stack([getattr(s, name)[view] for s in samples])) for name in ("images", "tokens")
    )
    return Pairs(images, tokens, *_identities(samples))


def _identities(samples: Iterable[Sample]) -> tuple[Tensor, Tensor]:
    samples = list(samples)
    ids = torch.tensor([text_number(s.uid) for s in samples], dtype=torch.int64)
    captions = torch.tensor([text_number(s.caption or "") for s in samples], dtype=torch.int64)
    return ids, captions


def text_number(text: str) -> int:
    """Return 63 bits of a hash: equal texts, equal numbers."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def load_clip_weights(plan: Plan, model: ClipModel) -> Weights:
    """Return the weights of the CLIP-score model: a file, or a tag that open_clip downloads.

    Raises:
        CheckpointUnusable: no such file or tag, or it cannot be downloaded.
        LocationForbidden: the tag's weights lie at a place that is not allowed.
    """
    assert plan.clip_model is not None
    assert plan.clip_pretrained is not None
    pretrained = plan.clip_pretrained
    name = plan.clip_model.name
    if open_clip.get_pretrained_cfg(name, pretrained):
        check_tag(name, pretrained)
        try:
            path = open_clip.download_pretrained(open_clip.get_pretrained_cfg(name, pretrained))
        except Exception as error:  # the hub's client raises all kinds; the way out is the same
            raise CheckpointUnusable(
                f"the weights {name}/{pretrained} cannot be downloaded ({type(error).__name__}). "
                "Give the path of a weights file as `clip_model.pretrained`.",
                model=name,
            ) from error
    else:
        try:
            file_info(pretrained)
        except (OSError, ValueError, ImportError) as error:
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)[:8])
            raise CheckpointUnusable(
                f"{pretrained} is neither a file nor a tag of {name}; its tags: {tags or 'none'}", model=name
            ) from error
        path = pretrained
    return model.weights(checkpoint_files.load(str(path)).state_dict, str(path))
