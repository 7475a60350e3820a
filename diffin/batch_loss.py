"""L_B and L_V: losses of a whole batch with their gradient and Hessian-vector products, in bounded memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffin import autodiff
from diffin.contrastive import Encoded, LossKind, Pairs, batch_loss, logits_loss, masked_members

Encoder = Callable[[Tensor, Pairs], Encoded]
"""(theta (p,), pairs of n) -> embeddings of n."""


class BatchLoss(Protocol):
    """A scalar loss of the parameters: L_B or L_V."""

    def gradient(self, theta: Tensor) -> Tensor:
        """Return the gradient (p,) at theta (p,)."""
        ...

    def hvp(self, theta: Tensor, direction: Tensor) -> Tensor:
        """Return H direction (p,) at theta."""
        ...


@dataclass(frozen=True)
class MeanLoss:
    """The mean of per-sample losses over batches: any torch module with a loss that is a sum over samples.

    Attributes:
        losses: (theta, batch) -> (n,).
        batches: the samples, in batches that fit into memory.
        count: number of samples over all batches.
    """

    losses: Callable[[Tensor, object], Tensor]
    batches: Sequence[object]
    count: int

    def gradient(self, theta: Tensor) -> Tensor:
        return torch.stack([autodiff.gradient(self._share(batch), theta) for batch in self.batches]).sum(0)

    def hvp(self, theta: Tensor, direction: Tensor) -> Tensor:
        return torch.stack([autodiff.hvp(self._share(batch), theta, direction) for batch in self.batches]).sum(0)

    def _share(self, batch: object) -> autodiff.Function:
        return lambda theta: self.losses(theta, batch).sum() / self.count


@dataclass(frozen=True)
class ContrastiveLoss:
    """The contrastive loss of a batch against itself.

    It does not split into batches, but it is a function f of the embeddings E(theta), which do. With g = grad f(E):
        grad L      = sum over batches of J_c^T g_c
        H direction = sum over batches of (Hess <E_c, g_c>) direction + J_c^T g'_c,  g' = (Hess f) J direction
    so memory is that of one batch, at the price of one more forward pass. If B is one batch, there is nothing to split.

    Attributes:
        encode: the towers.
        pairs: the batch, of R samples.
        kind: of the loss.
        batch_size: samples whose graph is held at once.
    """

    encode: Encoder
    pairs: Pairs
    kind: LossKind
    batch_size: int = 64

    def gradient(self, theta: Tensor) -> Tensor:
        if self._whole:
            return autodiff.gradient(self._loss, theta)
        slopes = torch.func.grad(self._head)(self._embed(theta))
        total = torch.zeros_like(theta)
        for start, batch in self._batches():
            share = _rows(slopes, start, len(batch))
            total += autodiff.gradient(lambda t, b=batch, g=share, s=start: self._inner(t, b, g, s), theta)
        return total

    def hvp(self, theta: Tensor, direction: Tensor) -> Tensor:
        if self._whole:
            return autodiff.hvp(self._loss, theta, direction)
        embeddings, speeds = self._moved(theta, direction)
        slopes, bends = torch.func.jvp(torch.func.grad(self._head), (embeddings,), (speeds,))[:2]
        total = torch.zeros_like(theta)
        for start, batch in self._batches():
            share, bend = _rows(slopes, start, len(batch)), _rows(bends, start, len(batch))
            total += autodiff.hvp(
                lambda t, b=batch, g=share, s=start: self._inner(t, b, g, s),
                theta,
                direction,
                extra=lambda t, b=batch, g=bend, s=start: self._inner(t, b, g, s),
            )
        return total

    def gauss_newton(self, theta: Tensor, direction: Tensor) -> Tensor:
        """Return J^T C J direction (p,): J the Jacobian of the logits, C the Hessian of the loss in the logits."""
        embeddings, speeds = self._moved(theta, direction)
        logits, back = torch.func.vjp(self._logits, embeddings)[:2]
        moving = torch.func.jvp(self._logits, (embeddings,), (speeds,))[1]
        slope = torch.func.grad(lambda values: logits_loss(values, self._masked, self.kind))
        bends = back(torch.func.jvp(slope, (logits,), (moving,))[1])[0]
        total = torch.zeros_like(theta)
        for start, batch in self._batches():
            bend = _rows(bends, start, len(batch))
            total += autodiff.gradient(lambda t, b=batch, g=bend, s=start: self._inner(t, b, g, s), theta)
        return total

    def _moved(self, theta: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Return the packed embeddings (R, 2d + 2) and their derivative along a direction."""
        moved = [
            autodiff.derivative(lambda t, b=b, s=s: self._pack(t, b, s), theta, direction) for s, b in self._batches()
        ]
        return torch.cat([value for value, _ in moved]), torch.cat([speed for _, speed in moved])

    @property
    def _whole(self) -> bool:
        return len(self.pairs) <= self.batch_size

    def _loss(self, theta: Tensor) -> Tensor:
        return self._head(self._pack(theta, self.pairs, 0))

    def _batches(self) -> list[tuple[int, Pairs]]:
        starts = range(0, len(self.pairs), self.batch_size)
        return [(start, self.pairs[start : start + self.batch_size]) for start in starts]

    def _embed(self, theta: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([self._pack(theta, batch, start) for start, batch in self._batches()])

    def _pack(self, theta: Tensor, batch: Pairs, start: int) -> Tensor:
        """Return embeddings as rows (n, 2d + 2): image, text, and scale and bias in the batch's first row alone."""
        encoded = self.encode(theta, batch).double()
        first = (torch.arange(len(batch), device=encoded.image.device) + start == 0).double()[:, None]
        return torch.cat([encoded.image, encoded.text, encoded.scale * first, encoded.bias * first], 1)

    def _inner(self, theta: Tensor, batch: Pairs, weights: Tensor, start: int) -> Tensor:
        return (self._pack(theta, batch, start) * weights).sum()

    def _head(self, rows: Tensor) -> Tensor:
        """Return the loss () of packed rows (R, 2d + 2)."""
        image, text = rows[:, :-2].chunk(2, 1)
        encoded = Encoded(image, text, rows[0, -2], rows[0, -1])
        return batch_loss(encoded, self._masked, self.kind)

    def _logits(self, rows: Tensor) -> Tensor:
        """Return the logits (R, R) of packed rows (R, 2d + 2): of each image with every text."""
        image, text = rows[:, :-2].chunk(2, 1)
        return rows[0, -2] * (image @ text.T) + rows[0, -1]

    @property
    def _masked(self) -> Tensor:
        return masked_members(self.pairs, self.pairs)


@dataclass(frozen=True)
class GaussNewton:
    """A contrastive loss with the Gauss-Newton matrix in the place of its Hessian: J^T C J, C the logits' Hessian.

    C is positive semi-definite, since both losses are convex in the logits, so J^T C J is too. It leaves out how the
    logits bend. Under Adam that part is largely undone by P, which shrinks where gradients grow (docs/method.md,
    section 4). A product takes about half as long as one with the Hessian: forward mode and one gradient.
    """

    loss: ContrastiveLoss

    def gradient(self, theta: Tensor) -> Tensor:
        return self.loss.gradient(theta)

    def hvp(self, theta: Tensor, direction: Tensor) -> Tensor:
        """Return J^T C J direction (p,)."""
        return self.loss.gauss_newton(theta, direction)


def _rows(values: Tensor, start: int, count: int) -> Tensor:
    return values[start : start + count]
