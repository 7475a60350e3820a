"""Contrastive models: what a minibatch's loss is without some of its samples, and what the estimators are given."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from benchmarks.retraining.training import Saved, Training, side_by_side
from diffin.batch_loss import ContrastiveLoss, Encoder
from diffin.contrastive import Encoded, LossKind, Pairs, cosine
from diffin.layout import Layout
from diffin.samples import ContrastiveLosses


@dataclass(frozen=True)
class ContrastiveProblem:
    """Two towers under InfoNCE, all in float64.

    Attributes:
        start: (p,) the first weights.
        wrong: (n,) bool, whose caption in the pool is another's.
        decayed: (p,) bool, which parameters decay, or None.
    """

    training: Training
    encode: Encoder
    start: Tensor
    pool: Pairs
    validation: Pairs
    wrong: Tensor
    decayed: Tensor | None = None

    def train(self, training: Training) -> tuple[list[Saved], Tensor]:
        """Return the training with all samples and L_V (K + 1,) of all trainings, that one last."""
        saved, thetas = side_by_side(training, self.start, self.loss_without, self.decayed)
        everyone = torch.ones(len(self.validation), dtype=self.start.dtype)
        return saved, torch.stack([weighted_loss(self.encode(theta, self.validation), everyone) for theta in thetas])

    def loss_without(self, theta: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        return weighted_loss(self.encode(theta, self.pool[rows]), weights)

    def loss(self, saved: Saved, batch: Pairs) -> ContrastiveLoss:
        return ContrastiveLoss(self.encode, batch, LossKind.INFO_NCE, batch_size=len(batch))

    def samples(self, saved: Saved, reference: Pairs) -> ContrastiveLosses:
        return ContrastiveLosses(self.encode, reference, LossKind.INFO_NCE)

    def clip_score(self, saved: Saved, batch: Pairs) -> Tensor:
        return cosine(self.encode(saved.theta, batch))


def clip_problem(
    training: Training, model: torch.nn.Module, pool: Pairs, validation: Pairs, wrong: Tensor
) -> ContrastiveProblem:
    """Return the problem of an open_clip model from its present weights; as in open_clip, matrices alone decay."""
    model = model.double().eval()
    weights = {name: value.detach() for name, value in model.named_parameters()}
    layout = Layout.of(weights)

    def encode(theta: Tensor, pairs: Pairs) -> Encoded:
        image, text, scale = functional_call(model, layout.unflatten(theta), (pairs.images, pairs.tokens))[:3]
        return Encoded(image, text, scale.reshape(()), torch.zeros_like(scale).reshape(()))

    decayed = layout.flatten({name: torch.full_like(value, value.ndim > 1) for name, value in weights.items()})
    return ContrastiveProblem(training, encode, layout.flatten(weights), pool, validation, wrong, decayed)


def weighted_loss(batch: Encoded, weights: Tensor) -> Tensor:
    """Return the contrastive loss () of a batch whose samples count, also as negatives, by their weights (b,).

    As in training, nothing is masked: a sample with another's caption is a negative of it.
    """
    own = batch.scale * cosine(batch)
    lower = weights.clamp_min(1e-300).log().where(~torch.eye(len(own), dtype=torch.bool), torch.zeros_like(own))
    logits = batch.scale * batch.image @ batch.text.T
    both = torch.logsumexp(logits + lower, 1) + torch.logsumexp(logits.T + lower, 1)
    return (weights * (both / 2 - own)).sum() / len(own)
