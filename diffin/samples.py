"""Per-sample losses at any point, for the two kinds of model: those with a loss of their own a sample, and CLIP."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from diffin.autodiff import differentiable_kernels
from diffin.batch_loss import Encoder
from diffin.contrastive import Encoded, LossKind, Pairs, astuple, masked_members, sample_losses


class SampleLosses(Protocol):
    """l_z(theta) for the samples of a batch. `context` is what all samples share at one point, computed once."""

    def context(self, theta: Tensor) -> Any:
        """Return what the losses at theta (p,) need besides the samples: for CLIP, the embeddings of B."""
        ...

    def losses(self, theta: Tensor, context: Any, batch: Any) -> Tensor:
        """Return (n,) losses at theta."""
        ...


@dataclass(frozen=True)
class ModuleLosses:
    """Any model: `function` maps (theta, batch) to (n,) losses."""

    function: Callable[[Tensor, Any], Tensor]

    def context(self, theta: Tensor) -> None:
        return None

    def losses(self, theta: Tensor, context: None, batch: Any) -> Tensor:
        return self.function(theta, batch)


@dataclass(frozen=True)
class ContrastiveLosses:
    """A contrastive model against the reference batch B.

    Attributes:
        encode: the towers.
        reference: B, of R samples.
        kind: of the loss.
        batch_size: members of B encoded at once.
    """

    encode: Encoder
    reference: Pairs
    kind: LossKind
    batch_size: int = 256

    def context(self, theta: Tensor) -> Encoded:
        starts = range(0, len(self.reference), self.batch_size)
        parts = [self.encode(theta, self.reference[s : s + self.batch_size]).double() for s in starts]
        image, text = (torch.cat([getattr(part, name) for part in parts]) for name in ("image", "text"))
        return Encoded(image, text, parts[0].scale, parts[0].bias)

    def losses(self, theta: Tensor, context: Encoded, batch: Pairs) -> Tensor:
        return self.of(self.encode(theta, batch).double(), context, batch)

    def of(self, encoded: Encoded, context: Encoded, batch: Pairs) -> Tensor:
        """Return (n,) losses of samples that are encoded already."""
        return sample_losses(encoded, context, masked_members(batch, self.reference), self.kind)

    def context_along(self, theta: Tensor, direction: Tensor) -> tuple[Encoded, Encoded]:
        """Return B's embeddings at theta, and their derivative along a direction (p,)."""
        with differentiable_kernels(), torch.no_grad():
            found = torch.func.jvp(lambda t: astuple(self.context(t)), (theta,), (direction,))[:2]
        return Encoded(*found[0]), Encoded(*found[1])

    def slopes(
        self, theta: Tensor, direction: Tensor, context: tuple[Encoded, Encoded], batch: Pairs
    ) -> tuple[Tensor, Tensor, Encoded]:
        """Return the losses (n,) at theta, their derivatives (n,) along a direction, and the samples' embeddings.

        Args:
            context: from context_along.
        """

        def losses(point: Tensor, *members: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            encoded = self.encode(point, batch).double()
            return self.of(encoded, Encoded(*members), batch), astuple(encoded)

        value, speed = context
        with differentiable_kernels(), torch.no_grad():
            found: Any = torch.func.jvp(losses, (theta, *astuple(value)), (direction, *astuple(speed)), has_aux=True)
        return found[0], found[1], Encoded(*found[2])
