"""I_theta(S): how the trained parameters would differ had the samples of a set S been left out of training.

The recursion that diffin runs backwards for one target is run forwards here, for one set, from I^0 = 0:

    I^{t+1} = I^t - eta_t P_t (H_t I^t - sum over S of G_z / N)

I^T estimates theta(without S) - theta(with S), so theta_T + I^T are the weights with S's influence removed. Over a
piece with H and P frozen (see diffin/adjoint.py), s its sum of learning rates, A = P^1/2 H P^1/2 and g = sum over S of
G_z / N,

    P^-1/2 I_end = exp(-s A) P^-1/2 I_start + phi_1(s A) P^1/2 g

It is the transpose of the adjoint: <u_T, I^T> is the sum of S's diffin scores where Lanczos is exact.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffin.adjoint import LANCZOS_STEPS, Segment, exp_and_phi
from diffin.autodiff import differentiable_kernels, gradient
from diffin.batch_loss import BatchLoss
from diffin.contrastive import Encoded, Pairs
from diffin.samples import ContrastiveLosses


class SetLoss(Protocol):
    """The share that a set S has in the training's loss: sum over S of l_z / N.

    For a loss of its own a sample it is `MeanLoss(losses, batches of S, count=N)`.
    """

    def gradient(self, theta: Tensor) -> Tensor:
        """Return sum over S of G_z / N (p,) at theta (p,)."""
        ...


@dataclass(frozen=True)
class ContrastiveSetLoss:
    """A set's share in a contrastive training: each sample's loss against the reference batch B.

    B's embeddings depend on theta too. Their slopes are summed over S and then taken through the towers once, batch by
    batch, so memory is that of one batch and of B's embeddings.

    Attributes:
        losses: l_z, with B.
        batches: the samples of S, in batches whose graph fits into memory; iterated over once a gradient.
        n_samples: N.
        batch_size: members of B whose graph is held at once.
    """

    losses: ContrastiveLosses
    batches: Iterable[Pairs]
    n_samples: float
    batch_size: int = 64

    def gradient(self, theta: Tensor) -> Tensor:
        with torch.no_grad():
            context = self.losses.context(theta)
        point, image, text = (v.detach().requires_grad_() for v in (theta, context.image, context.text))
        members = Encoded(image, text, context.scale, context.bias)  # scale and bias are taken from the samples
        total, slopes = torch.zeros_like(theta), [torch.zeros_like(v) for v in (image, text)]
        for batch in self.batches:
            with differentiable_kernels(), torch.enable_grad():
                share = self.losses.losses(point, members, batch).sum() / self.n_samples
                own, *others = torch.autograd.grad(share, (point, image, text))
            total += own
            slopes = [slope + other for slope, other in zip(slopes, others, strict=True)]
        return total + self._through_members(theta, *slopes)

    def _through_members(self, theta: Tensor, image: Tensor, text: Tensor) -> Tensor:
        """Return J^T slopes (p,), J the Jacobian of B's embeddings, for slopes (R, d) of images and texts."""
        total = torch.zeros_like(theta)
        for start in range(0, len(self.losses.reference), self.batch_size):
            rows = slice(start, start + self.batch_size)

            def inner(point: Tensor, rows: slice = rows) -> Tensor:
                encoded = self.losses.encode(point, self.losses.reference[rows]).double()
                return (encoded.image * image[rows]).sum() + (encoded.text * text[rows]).sum()

            total += gradient(inner, theta)
        return total


def parameter_influence(
    segments: Sequence[Segment],
    removed: Sequence[SetLoss],
    steps: int = LANCZOS_STEPS,
    progress: Callable[[float], None] = lambda share: None,
) -> Tensor:
    """Return I_theta(S) (p,): the parameters without S less those with S, to first order in S.

    Args:
        segments: of the training, in its order, as for `adjoint`.
        removed: for each segment, the loss of S at its checkpoint.
        steps: Lanczos steps for each minibatch and each of the two vectors.
        progress: called before each Hessian-vector product, with the share of them that is done.

    Cost: the gradient of S once a segment, and 2 * steps Hessian-vector products for each minibatch.
    """
    influence = torch.zeros_like(segments[0].theta)
    products = itertools.count()
    expected = 2 * steps * sum(len(segment.minibatches) for segment in segments)
    count_product = lambda: progress(min(1.0, next(products) / expected))  # noqa: E731
    for segment, loss in zip(segments, removed, strict=True):
        influence = _over(segment, influence, loss.gradient(segment.theta), steps, count_product)
    return influence


def _over(segment: Segment, start: Tensor, push: Tensor, steps: int, count_product: Callable[[], None]) -> Tensor:
    """Return I_end (p,) of one segment, given I_start and g (p,)."""
    root = torch.ones_like(start) if segment.preconditioner is None else segment.preconditioner.sqrt()
    share = segment.lr_sum / len(segment.minibatches)
    current, push = torch.where(root > 0, start / root, 0), root * push
    for minibatch in segment.minibatches:

        def matvec(vector: Tensor, minibatch: BatchLoss = minibatch) -> Tensor:
            count_product()
            return root * minibatch.hvp(segment.theta, root * vector)

        kept = exp_and_phi(matvec, current, share, steps).decayed
        current = kept + exp_and_phi(matvec, push, share, steps).integral
    return torch.where(root > 0, root * current, start)
