"""Small problems shared by the numerics' tests: a tiny open_clip CLIP in both precisions, and a quadratic."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import open_clip
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from diffin.batch_loss import ContrastiveLoss
from diffin.contrastive import Encoded, LossKind, Pairs, batch_loss, masked_members
from diffin.layout import Layout
from diffin.samples import ContrastiveLosses

CONFIG = {
    "embed_dim": 6,
    "vision_cfg": {"image_size": 8, "layers": 1, "width": 8, "head_width": 4, "patch_size": 4, "mlp_ratio": 2.0},
    "text_cfg": {"context_length": 5, "vocab_size": 12, "width": 8, "heads": 2, "layers": 1, "mlp_ratio": 2.0},
}


def draw_pairs(count: int, first_id: int, seed: int) -> Pairs:
    """Return random pairs; every fourth shares its caption with the one before."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 11, (count, 5), generator=generator)
    tokens[:, -1] = 11  # the highest id marks the end of the text
    captions = torch.arange(count) + first_id
    captions[3::4] = captions[2::4][: len(captions[3::4])]
    tokens[3::4] = tokens[2::4][: len(captions[3::4])]
    images = torch.randn(count, 3, 8, 8, generator=generator)
    return Pairs(images, tokens, torch.arange(count) + first_id, captions)


@dataclass(frozen=True)
class Clip:
    """A tiny CLIP, a little trained, and its reference batch."""

    layout: Layout
    theta: Tensor
    reference: Pairs
    models: dict[torch.dtype, torch.nn.Module]
    kind: LossKind

    def encode(self, theta: Tensor, pairs: Pairs) -> Encoded:
        params = self.layout.unflatten(theta)
        outputs = functional_call(self.models[theta.dtype], params, (pairs.images.to(theta.dtype), pairs.tokens))
        image, text, scale = outputs[:3]
        return Encoded(image, text, scale, outputs[3] if len(outputs) > 3 else torch.zeros_like(scale))

    def losses(self) -> ContrastiveLosses:
        return ContrastiveLosses(self.encode, self.reference, self.kind)

    def batch(self, pairs: Pairs, batch_size: int = 64) -> ContrastiveLoss:
        return ContrastiveLoss(self.encode, pairs, self.kind, batch_size)


def train(model: torch.nn.Module, pairs: Pairs, kind: LossKind, steps: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(steps):
        outputs = model(pairs.images, pairs.tokens)
        bias = outputs[3] if len(outputs) > 3 else torch.zeros(())
        loss = batch_loss(Encoded(*outputs[:3], bias), masked_members(pairs, pairs), kind)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.fixture(scope="session", params=[LossKind.INFO_NCE, LossKind.SIGLIP])
def clip(request: pytest.FixtureRequest) -> Clip:
    kind: LossKind = request.param
    torch.manual_seed(0)
    bias = {"init_logit_bias": -2.0} if kind is LossKind.SIGLIP else {}
    model = open_clip.CLIP(**CONFIG, **bias).eval()
    reference = draw_pairs(24, 0, seed=1)
    train(model, draw_pairs(48, 500, seed=2), kind, steps=30)
    params = dict(model.named_parameters())
    layout = Layout.of(params)
    models = {torch.float32: model, torch.float64: copy.deepcopy(model).double()}
    return Clip(layout, layout.flatten(params).detach(), reference, models, kind)


@pytest.fixture(scope="session")
def pairs() -> Callable[..., Pairs]:
    """Return draw_pairs, for the tests that want samples of their own."""
    return draw_pairs
