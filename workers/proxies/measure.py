"""What a proxy can do on samples it has not seen: zero-shot accuracy where captions are classes, else retrieval."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from coreset.evaluation import Quality
from workers.clip_model import ClipModel
from workers.proxies.packed import Packed

BATCH = 256
RANKS = (1, 5, 10)
SAMPLES_A_CLASS = 5
"""Captions that as many samples share on average, or more, are the names of classes."""


@torch.no_grad()
def measure(model: ClipModel, test: Packed) -> Quality:
    """Test a model.

    Each image is looked for among the distinct captions (image to text), and each distinct caption among the images
    (text to image); R@k is the share of them whose partner, or one of its partners, is among the first k. Where
    captions are classes, R@1 of image to text is zero-shot accuracy.
    """
    captions = list(dict.fromkeys(test.captions))
    number = {caption: i for i, caption in enumerate(captions)}
    truth = torch.tensor([number[caption] for caption in test.captions])
    first = [test.captions.index(caption) for caption in captions]
    module: Any = model.module
    images = _embedded(lambda batch: module.encode_image(model.normalised(batch)), test.images, model.device)
    texts = _embedded(module.encode_text, test.tokens[first], model.device)
    cosines = images @ texts.T
    texts_first, images_first = (found.topk(min(RANKS[-1], found.shape[1])).indices for found in (cosines, cosines.T))
    to_text = texts_first == truth[:, None]
    to_image = truth[images_first] == torch.arange(len(captions))[:, None]
    classes = len(test) >= SAMPLES_A_CLASS * len(captions)
    return Quality(
        accuracy=_share(to_text[:, :1]) if classes else None,
        image_to_text={k: _share(to_text[:, :k]) for k in RANKS},
        text_to_image={k: _share(to_image[:, :k]) for k in RANKS},
    )


def _embedded(encode: Callable[[Tensor], Tensor], inputs: Tensor, device: torch.device) -> Tensor:
    """Return (n, d) embeddings of length 1, on the CPU."""
    found = [encode(batch.to(device)).float().cpu() for batch in inputs.split(BATCH)]
    return torch.nn.functional.normalize(torch.cat(found), dim=1)


def _share(found: Tensor) -> float:
    """Return the share of the rows of (n, k) with something found."""
    return found.any(dim=1).float().mean().item()
