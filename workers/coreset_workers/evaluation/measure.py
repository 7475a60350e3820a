"""What a proxy can do on samples it has not seen: zero-shot accuracy where captions are classes, else retrieval."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from coreset.schemas.evaluation import Quality
from coreset_workers.model.clip import ClipModel
from coreset_workers.training.decoded import DecodedSamples

BATCH = 256
GALLERY = 100
RANKS = (1, 5, 10)
SAMPLES_A_CLASS = 5
"""Captions that as many samples share on average, or more, are the names of classes."""


@torch.no_grad()
def measure(model: ClipModel, test: DecodedSamples) -> Quality:
    """Test a model by its embeddings.

    Where captions are classes, each image is looked for among all of them: R@1 of image to text is zero-shot accuracy.
    Else the test is cut into galleries of 100 samples, in their order, since small models find little among more. R@k
    is the share of the images (captions) whose caption (image, or one of its images) is among the first k.
    """
    captions = list(dict.fromkeys(test.captions))
    classes = len(test) >= SAMPLES_A_CLASS * len(captions)
    numbers = {caption: i for i, caption in enumerate(captions)}
    partner = torch.tensor([numbers[caption] for caption in test.captions])
    first = [test.captions.index(caption) for caption in captions]
    module: Any = model.module
    images = _embedded(lambda batch: module.encode_image(model.normalised(batch)), test.images, model.device)
    texts = _embedded(module.encode_text, test.tokens[first], model.device)
    galleries = torch.arange(len(test)).split(len(test) if classes else GALLERY)
    recalls = torch.stack([_recalls(images[rows], texts, partner[rows]) for rows in galleries])
    share = torch.tensor([len(rows) / len(test) for rows in galleries], dtype=torch.float64)
    to_text, to_image = torch.einsum("g,gwk->wk", share, recalls).tolist()
    return Quality(
        accuracy=to_text[0] if classes else None,
        image_to_text=dict(zip(RANKS, to_text, strict=True)),
        text_to_image=dict(zip(RANKS, to_image, strict=True)),
    )


def _recalls(images: Tensor, texts: Tensor, partner: Tensor) -> Tensor:
    """Return R@k, (2, 3) float64, of image to text and of text to image, over a gallery of images and their captions.

    Args:
        partner: (n,) of each image, its caption's row in `texts`.
    """
    there, column = partner.unique(return_inverse=True)
    cosines = images @ texts[there].T
    to_text = _order(cosines) == column[:, None]
    to_image = column[_order(cosines.T)] == torch.arange(len(there))[:, None]
    return torch.stack(
        [torch.stack([way[:, :k].any(dim=1).double().mean() for k in RANKS]) for way in (to_text, to_image)]
    )


def _order(cosines: Tensor) -> Tensor:
    return cosines.argsort(dim=1, descending=True, stable=True)


def _embedded(encode: Callable[[Tensor], Tensor], inputs: Tensor, device: torch.device) -> Tensor:
    """Return (n, d) embeddings of length 1, on the CPU."""
    found = [encode(batch.to(device)).float().cpu() for batch in inputs.split(BATCH)]
    return torch.nn.functional.normalize(torch.cat(found), dim=1)
