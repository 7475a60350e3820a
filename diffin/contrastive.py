"""The contrastive loss of one sample against a fixed reference batch, and of a batch against itself.

    l_z(theta) = 1/2 [ -log softmax(image z against texts {z} + B) - log softmax(text z against images {z} + B) ]

for InfoNCE, and the same sum of -log sigmoid terms for SigLIP. B's embeddings belong to the same parameters. Members
of B that are z itself, or carry z's caption, are masked: they are no negatives. l_z is therefore a pure function of
(sample, theta, B), whichever batch or shard z arrives in.
"""

from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor

MASKED = -1e9
"""Logit of a masked member: exp is 0 and, unlike -inf, its derivative is 0 also when all members are masked."""


class LossKind(StrEnum):
    INFO_NCE = "info_nce"
    SIGLIP = "siglip"


@dataclass(frozen=True)
class Pairs:
    """Image-text pairs as the towers take them.

    Attributes:
        images: (n, 3, H, W), as the encoder wants them.
        tokens: (n, L) int64.
        ids: (n,) int64, equal for the same sample.
        captions: (n,) int64, equal for equal captions.
    """

    images: Tensor
    tokens: Tensor
    ids: Tensor
    captions: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: slice | Tensor) -> "Pairs":
        return Pairs(self.images[index], self.tokens[index], self.ids[index], self.captions[index])

    def padded(self, size: int) -> "Pairs":
        """Return the pairs, at least one, with the last one repeated until there are `size`."""
        return self if len(self) == size else self[torch.arange(size).clamp(max=len(self) - 1)]

    def to(self, device: torch.device | str) -> "Pairs":
        return Pairs(*(value.to(device) for value in (self.images, self.tokens, self.ids, self.captions)))


@dataclass(frozen=True)
class Encoded:
    """Embeddings at one point: image (n, d) and text (n, d) of unit length, scale () and bias ()."""

    image: Tensor
    text: Tensor
    scale: Tensor
    bias: Tensor

    def double(self) -> "Encoded":
        """Return the same in float64: the head costs little, and its round-off is what differences amplify."""
        return Encoded(self.image.double(), self.text.double(), self.scale.double(), self.bias.double())


def astuple(encoded: Encoded) -> tuple[Tensor, ...]:
    """Return the tensors themselves, for torch.func, which knows tuples only."""
    return encoded.image, encoded.text, encoded.scale, encoded.bias


def masked_members(samples: Pairs, reference: Pairs) -> Tensor:
    """Return (n, R) bool: which members of B are the sample itself or carry its caption."""
    same_sample = samples.ids[:, None] == reference.ids[None, :]
    return same_sample | (samples.captions[:, None] == reference.captions[None, :])


def cosine(encoded: Encoded) -> Tensor:
    """Return the CLIP score (n,) of each pair, -1 to 1."""
    return (encoded.image * encoded.text).sum(1)


def sample_losses(samples: Encoded, reference: Encoded, masked: Tensor, kind: LossKind) -> Tensor:
    """Return l_z (n,) of each sample against the reference batch; masked is (n, R)."""
    own = samples.scale * cosine(samples) + samples.bias
    to_texts = samples.scale * (samples.image @ reference.text.T) + samples.bias
    to_images = samples.scale * (samples.text @ reference.image.T) + samples.bias
    return (one_way_loss(own, to_texts, masked, kind) + one_way_loss(own, to_images, masked, kind)) / 2


def one_way_loss(own: Tensor, others: Tensor, masked: Tensor, kind: LossKind) -> Tensor:
    """Return the losses (n,) of one direction, from the logits of the pairs (n,) and of the others (n, R)."""
    others = others.masked_fill(masked, MASKED)
    if kind is LossKind.SIGLIP:
        return F.softplus(-own) + F.softplus(others).sum(1)
    return F.softplus(torch.logsumexp(others, 1) - own)


def batch_loss(batch: Encoded, masked: Tensor, kind: LossKind) -> Tensor:
    """Return the mean loss () of a batch that is its own reference; masked is (R, R) with a true diagonal."""
    return sample_losses(batch, batch, masked, kind).mean()


def logits_loss(logits: Tensor, masked: Tensor, kind: LossKind) -> Tensor:
    """Return batch_loss () up to round-off, from the logits (R, R) of each image with every text."""
    own = logits.diagonal()
    return (one_way_loss(own, logits, masked, kind) + one_way_loss(own, logits.T, masked, kind)).mean() / 2


def neg_clip_loss(samples: Encoded, reference: Encoded, same_sample: Tensor) -> Tensor:
    """Return negCLIPLoss (n,): cosine less tau/2 times the two log-sum-exps over {z} + B, tau = 1/scale.

    As published, equal captions count as negatives here: only the sample itself, same_sample (n, R), is masked.
    """
    plain = Encoded(samples.image, samples.text, samples.scale, torch.zeros_like(samples.scale))
    return -sample_losses(plain, reference, same_sample, LossKind.INFO_NCE) / samples.scale
