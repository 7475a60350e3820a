"""A tiny open_clip CLIP on images of digits, captions of words, 20 % of them another image's."""

import numpy as np
import open_clip
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from benchmarks.retraining.contrastive import ContrastiveProblem, clip_problem
from benchmarks.retraining.training import Training
from diffin.contrastive import Pairs

LEVELS = 3
WORDS = 10 + 4 * LEVELS
START, END = WORDS + 1, WORDS + 2  # 0 pads; open_clip pools at the largest token
SIDE = 16
MISMATCHED = 0.2


def tiny_clip(training: Training) -> ContrastiveProblem:
    """Return the problem; weights are open_clip's own start, decay is open_clip's: of matrices alone."""
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        model = open_clip.CLIP(
            embed_dim=32,
            vision_cfg=open_clip.CLIPVisionCfg(image_size=SIDE, layers=2, width=32, head_width=16, patch_size=8),
            text_cfg=open_clip.CLIPTextCfg(context_length=7, vocab_size=END + 1, width=32, heads=2, layers=2),
        )
    return clip_problem(training, model, *_pairs(training))


def _pairs(training: Training) -> tuple[Pairs, Pairs, Tensor]:
    """Return the pool, as many sound validation pairs, and which captions in the pool are wrong."""
    numbers = torch.Generator().manual_seed(training.seed)
    pixels, classes = (torch.tensor(np.asarray(array)) for array in load_digits(return_X_y=True))
    order = torch.randperm(len(classes), generator=numbers)[: 2 * training.samples]
    images = pixels[order].view(-1, 1, 8, 8) / 8 - 1
    tokens = _captions(images, classes[order])
    large = images.repeat_interleave(SIDE // 8, 2).repeat_interleave(SIDE // 8, 3).expand(-1, 3, -1, -1)
    ids = torch.arange(training.samples)
    swapped = torch.nonzero(torch.rand(training.samples, generator=numbers) < MISMATCHED)[:, 0]
    given = tokens.clone()
    given[swapped] = tokens[swapped[torch.randperm(len(swapped), generator=numbers)]]
    halves = zip(large.split(training.samples), given.split(training.samples), strict=True)
    pool, validation = (Pairs(image, text, ids, _alike(text)) for image, text in halves)
    return pool, validation, (given != tokens)[: training.samples].any(1)


def _captions(images: Tensor, classes: Tensor) -> Tensor:
    """Return (n, 7) tokens: the class, and how bright each quarter is: dark, grey or light."""
    quarters = images.view(-1, 2, 4, 2, 4).mean((2, 4)).flatten(1)
    edges = quarters.flatten().quantile(torch.linspace(0, 1, LEVELS + 1, dtype=quarters.dtype)[1:-1])
    levels = torch.bucketize(quarters, edges)
    words = torch.cat([1 + classes[:, None], 11 + LEVELS * torch.arange(4) + levels], 1)
    return torch.nn.functional.pad(torch.nn.functional.pad(words, (1, 0), value=START), (0, 1), value=END)


def _alike(tokens: Tensor) -> Tensor:
    """Return (n,) numbers that are equal for equal captions."""
    return torch.unique(tokens, dim=0, return_inverse=True)[1]
