"""One training of a CLIP from scratch, step by step: the same bits for the same seed on one machine.

Proxies, trained runs and the demo share it: open_clip's model and contrastive loss, AdamW, a warm-up and a cosine.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional

from coreset.schemas.plan import PlannedModel
from coreset_workers.model.clip import ClipModel
from coreset_workers.training.decoded import DecodedSamples

Rows = npt.NDArray[np.int64]

WARMUP_SHARE = 0.1
SHIFT = 8
"""Images are moved by up to an eighth of their side in each direction."""
LARGEST_LOG_SCALE = math.log(100)
WEIGHT_DECAY = 0.1
BETAS = (0.9, 0.98)
EPSILON = 1e-6
CLIP_NORM = 1.0


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train.

    Attributes:
        steps: of the whole schedule.
        seed: of the weights, of the order of samples and of the augmentation.
        mirror: whether half of the images are mirrored, too; open_clip's trainer does not.
    """

    steps: int
    batch_size: int
    lr: float
    seed: int
    mirror: bool = True
    warmup_share: float = WARMUP_SHARE

    @property
    def warmup(self) -> int:
        """Number of steps in which the learning rate rises."""
        return max(1, round(self.warmup_share * self.steps))

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return self.lr * self._share(step)

    def _share(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        return 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / max(1, self.steps - self.warmup)))


class Training:
    """A training in progress.

    Args:
        rows: (k,) the samples of the pool to train on; one that is there twice counts twice.

    Attributes:
        model: in training mode until `finish`.
        done: number of steps done.
    """

    def __init__(
        self, planned: PlannedModel, device: torch.device, pool: DecodedSamples, rows: Rows, recipe: Recipe
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.model = ClipModel.build(planned, device)
        self.recipe = recipe
        self.done = 0
        self._pool, self._rows = pool, rows
        self._module: Any = self.model.module.requires_grad_(True).train()
        self._optimizer = torch.optim.AdamW(groups_of(self._module), lr=recipe.lr, betas=BETAS, eps=EPSILON, fused=True)
        self._loss_of = open_clip.ClipLoss()
        self._generator = torch.Generator().manual_seed(recipe.seed)
        self._batches = batches(rows, recipe.steps, recipe.batch_size, recipe.seed)

    def step(self) -> None:
        """Take the next step of the schedule."""
        module, model, batch = self._module, self.model, next(self._batches)
        images = augmented(self._pool.images[batch], self._generator, self.recipe.mirror)
        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.done)
        embedded = module.encode_image(model.normalised(images.to(model.device)), normalize=True)
        texts = module.encode_text(self._pool.tokens[batch].to(model.device), normalize=True)
        loss = self._loss_of(embedded, texts, module.logit_scale.exp())
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), CLIP_NORM)
        self._optimizer.step()
        with torch.no_grad():
            module.logit_scale.clamp_(0, LARGEST_LOG_SCALE)
        self.done += 1

    def state(self) -> dict[str, Any]:
        """Return all that decides the rest of the training, the random generators too."""
        on_gpu = self.model.device.type == "cuda"
        return {
            "step": self.done,
            "state_dict": self._module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "random": {
                "augmentation": self._generator.get_state(),
                "torch": torch.get_rng_state(),
                **({"cuda": torch.cuda.get_rng_state(self.model.device)} if on_gpu else {}),
            },
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self._module.load_state_dict(state["state_dict"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.done = state["step"]
        self._generator.set_state(state["random"]["augmentation"])
        torch.set_rng_state(state["random"]["torch"])
        if "cuda" in state["random"] and self.model.device.type == "cuda":
            torch.cuda.set_rng_state(state["random"]["cuda"], self.model.device)
        recipe = self.recipe
        self._batches = batches(self._rows, recipe.steps, recipe.batch_size, recipe.seed, self.done)

    def finish(self) -> ClipModel:
        """Return the model in eval mode."""
        self._module.requires_grad_(False).eval()
        return self.model


def groups_of(module: nn.Module) -> list[dict[str, Any]]:
    """Return AdamW's groups as open_clip's trainer has them, in its order: gains, biases and the scale do not decay."""
    decay = [p for p in module.parameters() if p.ndim >= 2]
    others = [p for p in module.parameters() if p.ndim < 2]
    return [{"params": others, "weight_decay": 0.0}, {"params": decay, "weight_decay": WEIGHT_DECAY}]


def batches(rows: Rows, steps: int, batch_size: int, seed: int, first: int = 0) -> Iterator[Tensor]:
    """Yield (batch_size,) rows: one shuffle of all of them after the other, cut into batches across their ends.

    Args:
        first: the step to begin with, counted from 0.
    """
    draws, waiting = np.random.default_rng(seed), rows[:0]
    for step in range(steps):
        while len(waiting) < batch_size:
            waiting = np.concatenate([waiting, draws.permutation(rows)])
        batch, waiting = waiting[:batch_size], waiting[batch_size:]
        if step >= first:
            yield torch.from_numpy(batch)


def augmented(images: Tensor, generator: torch.Generator, mirror: bool = True) -> Tensor:
    """Return the (n, 3, S, S) images, each moved by its own draw, the edge repeated, and half of them mirrored."""
    n, _, height, width = images.shape
    most = max(1, height // SHIFT)
    padded = functional.pad(images.float(), (most,) * 4, mode="replicate").to(images.dtype)
    top, left = torch.randint(0, 2 * most + 1, (2, n, 1), generator=generator)
    y, x = top + torch.arange(height), left + torch.arange(width)
    if mirror:
        x = torch.where(torch.rand(n, 1, generator=generator) < 0.5, x, x.flip(1))
    return padded.permute(0, 2, 3, 1)[torch.arange(n)[:, None, None], y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)
