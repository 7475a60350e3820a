"""The loss of held-out samples as one batch: equal captions are no negatives of each other."""

import torch
from torch import Tensor

from coreset_workers.model.clip import ClipModel, Towers
from coreset_workers.model.inputs import text_number
from coreset_workers.training.decoded import DecodedSamples
from diffin.contrastive import Encoded, LossKind, Pairs, batch_loss, masked_members

BATCH = 256
"""Samples of a forward pass."""


def held_out_loss(model: ClipModel, samples: DecodedSamples) -> float:
    """Return the contrastive loss of the samples, nats; the model is left in training mode."""
    module = model.module
    module.eval()
    towers, pieces = Towers(module), list[Encoded]()
    with torch.no_grad():
        for rows in torch.arange(len(samples)).split(BATCH):
            images = model.normalised(samples.images[rows].to(model.device))
            pieces.append(towers(images, samples.tokens[rows].to(model.device)).double())
        whole = Encoded(
            torch.cat([piece.image for piece in pieces]),
            torch.cat([piece.text for piece in pieces]),
            pieces[0].scale,
            torch.zeros_like(pieces[0].scale),
        )
        identities = _identities(samples, model.device)
        masked = masked_members(identities, identities)
        loss = batch_loss(whole, masked, LossKind.INFO_NCE)
    module.train()
    return float(loss)


def _identities(samples: DecodedSamples, device: torch.device) -> Pairs:
    ids = torch.arange(len(samples))
    captions = torch.tensor([text_number(caption) for caption in samples.captions], dtype=torch.int64)
    nothing = Tensor()
    return Pairs(nothing, nothing, ids, captions).to(device)
