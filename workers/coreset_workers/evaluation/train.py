"""Trains one proxy: a CLIP from scratch on some samples of a pool, the same bits for the same seed on one machine."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional

from coreset.schemas.plan import PlannedModel
from coreset_workers.evaluation.decoded import DecodedSamples
from coreset_workers.model.clip import ClipModel

Rows = npt.NDArray[np.int64]

WARMUP_SHARE = 0.1
SHIFT = 8
"""Images are moved by up to an eighth of their side in each direction, and mirrored by chance."""
LARGEST_LOG_SCALE = math.log(100)
WEIGHT_DECAY = 0.1


def train_proxy(
    planned: PlannedModel,
    device: torch.device,
    pool: DecodedSamples,
    rows: Rows,
    samples_seen: int,
    batch_size: int,
    lr: float,
    seed: int,
    advance: Callable[[float], object] = lambda _: None,
) -> ClipModel:
    """Train a fresh model by open_clip's contrastive loss, AdamW, a warm-up and a cosine; return it in eval mode.

    Args:
        rows: (k,) the samples of the pool to train on; one that is there twice counts twice.
        samples_seen: whatever k is, so that all selections cost the same.
        seed: of the weights, of the order of samples and of the augmentation.
        advance: called after each step with the finished share, 0 to 1.
    """
    torch.manual_seed(seed)
    model = ClipModel.build(planned, device)
    module: Any = model.module.requires_grad_(True).train()
    steps = max(1, samples_seen // batch_size)
    optimizer = torch.optim.AdamW(_groups(module), lr=lr, betas=(0.9, 0.98), eps=1e-6, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _schedule(step, steps))
    loss_of = open_clip.ClipLoss()
    generator = torch.Generator().manual_seed(seed)
    for step, batch in enumerate(_batches(rows, steps, batch_size, seed)):
        images = model.normalised(augmented(pool.images[batch], generator).to(device))
        embedded = module.encode_image(images, normalize=True)
        loss = loss_of(
            embedded, module.encode_text(pool.tokens[batch].to(device), normalize=True), module.logit_scale.exp()
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            module.logit_scale.clamp_(0, LARGEST_LOG_SCALE)
        advance((step + 1) / steps)
    module.requires_grad_(False).eval()
    return model


def _groups(module: nn.Module) -> list[dict[str, Any]]:
    """As open_clip's trainer has it: gains, biases and the scale do not decay."""
    decay = [p for p in module.parameters() if p.ndim >= 2]
    others = [p for p in module.parameters() if p.ndim < 2]
    return [{"params": decay, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]


def _schedule(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step, counted from 0."""
    warmup = max(1, round(WARMUP_SHARE * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _batches(rows: Rows, steps: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Yield (batch_size,) rows: one shuffle of all of them after the other, cut into batches across their ends."""
    draws = np.random.default_rng(seed)
    wanted = steps * batch_size
    order = np.concatenate([draws.permutation(rows) for _ in range(-(-wanted // len(rows)))])[:wanted]
    yield from torch.from_numpy(order).split(batch_size)


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return the (n, 3, S, S) images, each moved by its own draw, the edge repeated, and half of them mirrored."""
    n, _, height, width = images.shape
    most = max(1, height // SHIFT)
    padded = functional.pad(images.float(), (most,) * 4, mode="replicate").to(images.dtype)
    top, left = torch.randint(0, 2 * most + 1, (2, n, 1), generator=generator)
    y, x = top + torch.arange(height), left + torch.arange(width)
    x = torch.where(torch.rand(n, 1, generator=generator) < 0.5, x, x.flip(1))
    return padded.permute(0, 2, 3, 1)[torch.arange(n)[:, None, None], y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)
