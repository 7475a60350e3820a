"""Ways to score a batch at one checkpoint, as functions of the batch, on one model and the same decoded samples."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.func import grad, vmap

from coreset.schemas.plan import PlannedModel
from coreset.spec.model import ParametersSpec
from coreset_workers.checkpoints.architecture import registered
from coreset_workers.influence.passes import Columns, Passes
from coreset_workers.influence.prepared_files import PreparedCheckpoint
from coreset_workers.model.clip import ClipModel, Weights, view_functions
from coreset_workers.model.parameters import counted_parameters
from diffin import stencil as st
from diffin.autodiff import differentiable_kernels, hvp
from diffin.batch_loss import ContrastiveLoss
from diffin.contrastive import Pairs
from diffin.samples import ContrastiveLosses

Contender = Callable[[Pairs], Tensor]
"""A batch of n -> (n,) scores."""

STEP = 1e-4
"""Of |theta|: where float32's differences are about right. Their cost does not depend on it."""


def planned(name: str) -> PlannedModel:
    return PlannedModel(name=name, config=registered(name), source="spec")


def random_pairs(model: ClipModel, count: int, seed: int) -> Pairs:
    """Return pairs of noise in the shapes that the model takes; the cost of a pass does not depend on what is seen."""
    numbers = np.random.default_rng(seed)
    functions = view_functions(model.planned, model.cfg)
    blank = functions.image(Image.new("RGB", (64, 64)))
    images = torch.from_numpy(numbers.integers(0, 256, (count, *blank.shape), dtype=np.uint8))
    tokens = torch.from_numpy(np.stack([functions.tokens(f"sample {n}") for n in numbers.integers(0, 9999, count)]))
    ids = torch.arange(count) + 1_000_000 * seed
    return Pairs(images, tokens, ids, ids).to(model.device)


@dataclass(frozen=True)
class Contenders:
    """A model with weights as open_clip initialises them, and B.

    Attributes:
        model: with the parameters that are counted.
        reference: B, of R pairs.
    """

    model: ClipModel
    reference: Pairs

    @classmethod
    def build(
        cls,
        name: PlannedModel,
        device: torch.device,
        reference_size: int,
        last_blocks: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> "Contenders":
        torch.manual_seed(0)
        scope = "all" if last_blocks is None else ParametersSpec(last_blocks=last_blocks)
        model = ClipModel.build(name, device, dtype, counted_parameters(scope, name))
        return cls(model, random_pairs(model, reference_size, seed=1))

    @cached_property
    def weights(self) -> Weights:
        """Always float32 at least: the model casts them."""
        weights = self.model.weights(self.model.module.state_dict(), "initial weights")
        return replace(weights, theta=weights.theta.to(torch.promote_types(weights.theta.dtype, torch.float32)))

    @cached_property
    def directions(self) -> dict[str, Tensor]:
        numbers = torch.Generator().manual_seed(2)
        theta = self.weights.theta
        names = ("influence", "gradient", "bend")
        drawn = {name: torch.randn(len(theta), generator=numbers).to(theta) for name in names}
        return {name: value * theta.norm() / value.norm() for name, value in drawn.items()}

    @property
    def samples(self) -> ContrastiveLosses:
        return ContrastiveLosses(self.model.encoder(self.weights.fixed), self.reference, self.model.kind)

    def forward(self, batch: Pairs) -> Tensor:
        """CLIP score: a plain pass of open_clip's module."""
        with torch.no_grad():
            image, text = self.model.module(self.model.normalised(batch.images), batch.tokens)[:2]
        return (image * text).sum(1)

    def differences(self, stencil: st.Stencil) -> Contender:
        """The scoring path of a job: passes at the points of a stencil."""
        ready = self.prepared(stencil)
        passes = Passes(self.model, self.weights, ready, self.reference, lambda encoded, reference, batch: {})
        runs = [make() for make in passes.groups()]  # a job moves the parameters once for thousands of samples
        row = next(iter(stencil.weights.values()))

        def score(batch: Pairs) -> Tensor:
            columns: Columns = {}
            with torch.no_grad():
                for run in runs:
                    columns |= run(batch)
            table = torch.stack([columns[column] for column in stencil.columns], 1)
            return table @ table.new_tensor(row)

        return score

    def prepared(self, stencil: st.Stencil) -> PreparedCheckpoint:
        """B's embeddings at the columns, which a job computes once."""
        theta, samples = self.weights.theta, self.samples
        with torch.no_grad():
            contexts = [samples.context(st.move(theta, point, self.directions)) for point in stencil.points]
            slopes = {name: samples.context_along(theta, self.directions[name]) for name in stencil.slopes}
        return PreparedCheckpoint(stencil, self.directions, contexts, slopes)

    @property
    def diffin(self) -> Contender:
        return self.differences(st.first_difference("diffin", "influence", STEP))

    @property
    def diffin_slope(self) -> Contender:
        return self.differences(st.slope("diffin", "influence"))

    @property
    def diffin_eq9(self) -> Contender:
        """V = training, tracin included."""
        return self.differences(st.Stencil(st.curve(STEP).points, {"diffin_eq9": (-2.0, 1.0, 1.0)}))

    def naive(self, batch: Pairs) -> Tensor:
        """Eq. 9 as it is written, a sample at a time: its gradient, H_B times it, and H_z times B's gradient."""
        loss = ContrastiveLoss(self.samples.encode, self.reference, self.model.kind, batch_size=len(self.reference))
        theta = self.weights.theta
        b = self._reference_gradient
        scores = []
        for i in range(len(batch)):
            own = lambda t, i=i: self.samples.losses(t, self.samples.context(t), batch[i : i + 1]).sum()  # noqa: E731
            with differentiable_kernels():
                slope = grad(own)(theta)
            scores.append(b @ loss.hvp(theta, slope) + b @ hvp(own, theta, b))
        return torch.stack(scores)

    @cached_property
    def _reference_gradient(self) -> Tensor:
        loss = ContrastiveLoss(self.samples.encode, self.reference, self.model.kind)
        return loss.gradient(self.weights.theta)

    def per_sample_gradients(self, batch: Pairs) -> Tensor:
        """<r, G_z> from every sample's own gradient by vmap(grad), B's embeddings held constant in its favour."""
        theta, r, samples = self.weights.theta, self.directions["influence"], self.samples
        with torch.no_grad():
            context = samples.context(theta)

        def loss(t: Tensor, image: Tensor, tokens: Tensor) -> Tensor:
            one = Pairs(image[None], tokens[None], batch.ids[:1], batch.captions[:1])
            return samples.of(samples.encode(t, one).double(), context, one).sum()

        with differentiable_kernels():
            gradients = vmap(grad(loss), in_dims=(None, 0, 0))(theta, batch.images, batch.tokens)
        return gradients @ r
