"""The adjoint of a CLIP with open_clip's own vocabulary under AdamW, against dense matrices in float64.

The dense side is made here: reverse mode only, columns of unit vectors and eigenvectors, nothing of `diffin`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffin.adjoint import Segment, segment_directions
from diffin.batch_loss import ContrastiveLoss, GaussNewton
from diffin.contrastive import Encoded, LossKind, Pairs
from diffin.layout import Layout

VOCABULARY = 49408
CONTEXT = 8
LR_SUM = 0.05
WORDS = (
    "red",
    "green",
    "blue",
    "old",
    "new",
    "big",
    "small",
    "wooden",
    "rusty",
    "shiny",
    "tiny",
    "quiet",
    "yellow",
    "round",
)
THINGS = ("boat", "dog", "tree", "car", "house", "lamp", "chair", "bird", "street", "bridge", "bicycle")
CONFIG = {
    "embed_dim": 4,
    "vision_cfg": {"image_size": 8, "layers": 1, "width": 8, "head_width": 4, "patch_size": 4, "mlp_ratio": 1.0},
    "text_cfg": {
        "context_length": CONTEXT,
        "vocab_size": VOCABULARY,
        "width": 4,
        "heads": 1,
        "layers": 1,
        "mlp_ratio": 1.0,
    },
}


@dataclass(frozen=True)
class Trained:
    """A CLIP after some steps of AdamW: its weights, P, the coordinates that P moves, and what it was trained on."""

    model: torch.nn.Module
    layout: Layout
    theta: Tensor
    preconditioner: Tensor
    moved: Tensor
    pool: Pairs

    def encode(self, theta: Tensor, pairs: Pairs) -> Encoded:
        image, text, scale = functional_call(self.model, self.layout.unflatten(theta), (pairs.images, pairs.tokens))[:3]
        return Encoded(image, text, scale.reshape(()), torch.zeros((), dtype=theta.dtype))

    def logits(self, active: Tensor, pairs: Pairs) -> Tensor:
        """Return the logits (R, R), given the coordinates that P moves."""
        encoded = self.encode(self.theta.index_put((self.moved,), active), pairs)
        return encoded.scale * encoded.image @ encoded.text.T


def drawn_pairs(count: int) -> Pairs:
    """Return images of noise with captions of words, most of which are rare; no caption is there twice."""
    numbers = torch.Generator().manual_seed(0)
    tokenizer = open_clip.SimpleTokenizer(context_length=CONTEXT)
    captions = [f"a {WORDS[i % len(WORDS)]} {THINGS[i % len(THINGS)]} {i}" for i in range(count)]
    images = torch.randn(count, 3, 8, 8, generator=numbers, dtype=torch.float64)
    return Pairs(images, tokenizer(captions), torch.arange(count), torch.arange(count))


def cross_entropy(logits: Tensor) -> Tensor:
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


@pytest.fixture(scope="module")
def trained() -> Trained:
    torch.manual_seed(0)
    model = open_clip.CLIP(**CONFIG).double().eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2)
    pool = drawn_pairs(48)
    order = torch.Generator().manual_seed(1)
    for _ in range(12):
        rows = torch.randperm(len(pool), generator=order)[:8]
        image, text, scale = model(pool.images[rows], pool.tokens[rows])[:3]
        optimizer.zero_grad()
        cross_entropy(scale * image @ text.T).backward()
        optimizer.step()
    params = dict(model.named_parameters())
    layout = Layout.of(params)
    states = {name: optimizer.state[value] for name, value in params.items()}
    second = layout.flatten({name: s["exp_avg_sq"] / (1 - 0.98 ** int(s["step"])) for name, s in states.items()})
    p = torch.where(second > 0, 1 / (second.sqrt() + 1e-6), 0)
    return Trained(model, layout, layout.flatten(params).detach(), p, torch.nonzero(p)[:, 0], pool)


def dense(trained: Trained, pairs: Pairs, gauss_newton: bool) -> Tensor:
    """Return the matrix (q, q) of the coordinates that P moves: the Hessian, or J^T C J."""
    active = trained.theta[trained.moved].requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        logits = trained.logits(active, pairs)
        if gauss_newton:
            rows = [torch.autograd.grad(one, active, retain_graph=True)[0] for one in logits.flatten()]
            jacobian, size = torch.stack(rows), logits.numel()
            bend = torch.autograd.functional.hessian(cross_entropy, logits.detach()).reshape(size, size)
            return jacobian.T @ bend @ jacobian
        slope = torch.autograd.grad(cross_entropy(logits), active, create_graph=True)[0]
        identity = torch.eye(len(active), dtype=active.dtype)
        columns = [
            torch.autograd.grad(slope, active, some, is_grads_batched=True, retain_graph=True)[0]
            for some in identity.split(200)
        ]
    matrix = torch.cat(columns)
    return (matrix + matrix.T) / 2


@dataclass(frozen=True)
class Case:
    """One piece of training: diffin's loss and its dense twin, and the exact actions on y."""

    segment: Segment
    u_end: Tensor
    root: Tensor
    decayed: Tensor
    integral: Tensor

    @classmethod
    def of(cls, trained: Trained, gauss_newton: bool) -> "Case":
        minibatch, target = trained.pool[:16], trained.pool[24:]
        loss = ContrastiveLoss(trained.encode, minibatch, LossKind.INFO_NCE, batch_size=8)
        wrapped = GaussNewton(loss) if gauss_newton else loss
        segment = Segment(trained.theta, LR_SUM, [wrapped], trained.preconditioner)
        active = trained.theta[trained.moved].requires_grad_()
        with sdpa_kernel(SDPBackend.MATH):
            slope = torch.autograd.grad(cross_entropy(trained.logits(active, target)), active)[0]
        root = trained.preconditioner[trained.moved].sqrt()
        values, vectors = torch.linalg.eigh(root[:, None] * dense(trained, minibatch, gauss_newton) * root[None, :])
        values, inner = values.clamp_min(0), vectors.T @ (root * slope)
        decayed = vectors @ (torch.exp(-LR_SUM * values) * inner)
        phi = torch.where(values > 1e-9, -torch.expm1(-LR_SUM * values) / values.clamp_min(1e-12), LR_SUM)
        u_end = torch.zeros_like(trained.theta).index_put((trained.moved,), slope)
        return cls(segment, u_end, root, decayed, vectors @ (phi * inner))

    def errors(self, moved: Tensor, steps: int, tolerance: float) -> tuple[float, float, int, float]:
        """Return the relative errors of exp(-SA) y and phi_1(SA) y, the steps taken and the residual."""
        r, start, found = segment_directions(self.segment, self.u_end, steps, tolerance=tolerance)
        size = float((self.root * self.u_end[moved]).norm())
        decayed = float((self.root * start[moved] - self.decayed).norm()) / size
        integral = float((r[moved] / self.root - self.integral).norm()) / (LR_SUM * size)
        return decayed, integral, found.steps[0], found.residual


@pytest.fixture(scope="module")
def case(trained: Trained) -> Callable[[bool], Case]:
    made: dict[bool, Case] = {}
    return lambda gauss_newton: made.setdefault(gauss_newton, Case.of(trained, gauss_newton))


def test_most_of_the_vocabulary_is_never_moved(trained: Trained) -> None:
    assert trained.layout.size > 4 * VOCABULARY
    assert len(trained.moved) < 2500
    assert trained.preconditioner.max() > 100 * trained.preconditioner[trained.moved].median()


@pytest.mark.slow
def test_the_steps_are_enough_for_the_tolerance(trained: Trained, case) -> None:
    for tolerance in (0.1, 0.01):
        decayed, integral, steps, residual = case(True).errors(trained.moved, 150, tolerance)
        assert max(decayed, integral) <= residual < tolerance
        assert steps < 150


@pytest.mark.slow
def test_the_hessian_itself_is_resolved_by_enough_steps(trained: Trained, case) -> None:
    """It has negative eigenvalues, so the residual is an estimate: the clamp makes the action converge more slowly."""
    decayed, integral, steps, _ = case(False).errors(trained.moved, 150, 1e-3)
    assert max(decayed, integral) < 0.1
    assert 3 < steps < 150


@pytest.mark.slow
def test_the_residual_bounds_the_error_at_any_number_of_steps(trained: Trained, case) -> None:
    for steps in (1, 2, 3, 6, 12):
        decayed, integral, taken, residual = case(True).errors(trained.moved, steps, 0.0)
        assert taken == steps
        assert max(decayed, integral) <= residual * (1 + 1e-6)


@pytest.mark.slow
def test_three_steps_do_not_resolve_it_and_say_so(trained: Trained, case) -> None:
    decayed, _, _, residual = case(False).errors(trained.moved, 3, 0.0)
    assert decayed > 0.1
    assert residual > 0.1
