"""A tiny open_clip CLIP with the real vocabulary, on images of digits whose captions have a long tail of rare words."""

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from sklearn.datasets import load_digits
from torch import Tensor

from benchmarks.retraining.contrastive import ContrastiveProblem, clip_problem
from benchmarks.retraining.training import Training
from diffin.contrastive import Pairs

SIDE = 16
WIDTH = 32
CONTEXT = 16
MISMATCHED = 0.2
CLASSES = 10
NAMES_OF_A_CLASS = 40
"""Words that name one class, the r-th of them with a share of 1/r: frequent ones, and ones of a single caption."""
FILLERS = 1500
FILLERS_IN_A_CAPTION = 3
SHADES = ("dark", "grey", "bright")
VALIDATION = 512


def vocabulary_clip(training: Training) -> ContrastiveProblem:
    """Return the problem; weights are open_clip's own start, decay is open_clip's: of matrices alone.

    Of the 49,408 rows of the embedding table only those that a caption has are kept: the others never have a gradient,
    so P is 0 there and no score depends on them.
    """
    pool, validation, wrong, vocabulary = _pairs(training)
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        model = open_clip.CLIP(
            embed_dim=WIDTH,
            vision_cfg=open_clip.CLIPVisionCfg(image_size=SIDE, layers=2, width=32, head_width=16, patch_size=8),
            text_cfg=open_clip.CLIPTextCfg(
                context_length=CONTEXT, vocab_size=vocabulary, width=WIDTH, heads=2, layers=2
            ),
        )
    return clip_problem(training, model, pool, validation, wrong)


def _pairs(training: Training) -> tuple[Pairs, Pairs, Tensor, int]:
    """Return the pool, sound validation pairs, which captions in the pool are wrong, and how many tokens there are."""
    draws = np.random.default_rng(training.seed)
    pixels, classes = (np.asarray(array) for array in load_digits(return_X_y=True))
    order = draws.permutation(len(classes))[: training.samples + VALIDATION]
    images = torch.tensor(pixels[order]).view(-1, 1, 8, 8) / 8 - 1
    captions = _captions(images, classes[order], draws)
    swapped = np.flatnonzero(draws.random(training.samples) < MISMATCHED)
    given = list(captions)
    for place, other in zip(swapped, np.roll(swapped, 1), strict=True):
        given[place] = captions[other]
    found, tokens = SimpleTokenizer(context_length=CONTEXT)(given).unique(return_inverse=True)  # in order: the end
    # of a text, where open_clip pools, stays the largest
    large = images.repeat_interleave(SIDE // 8, 2).repeat_interleave(SIDE // 8, 3).expand(-1, 3, -1, -1)
    alike = torch.unique(tokens, dim=0, return_inverse=True)[1]
    sizes = [training.samples, VALIDATION]
    parts = zip(large.split(sizes), tokens.split(sizes), alike.split(sizes), strict=True)
    pool, validation = (Pairs(image, text, torch.arange(len(text)), same) for image, text, same in parts)
    wrong = torch.tensor([a != b for a, b in zip(given, captions, strict=True)][: training.samples])
    return pool, validation, wrong, len(found)


def _captions(images: Tensor, classes: np.ndarray, draws: np.random.Generator) -> list[str]:
    """Return captions: a name of the class, how bright each half is, and words that say nothing."""
    words = draws.permutation(_words())[: CLASSES * NAMES_OF_A_CLASS + FILLERS]
    names = words[: CLASSES * NAMES_OF_A_CLASS].reshape(CLASSES, NAMES_OF_A_CLASS)
    fillers = words[CLASSES * NAMES_OF_A_CLASS :]
    halves = images.view(-1, 2, 4, 8).mean((2, 3))
    edges = halves.flatten().quantile(torch.tensor([1 / 3, 2 / 3], dtype=halves.dtype))
    shades = torch.bucketize(halves, edges).tolist()
    found: list[str] = []
    for kind, (top, bottom) in zip(classes, shades, strict=True):
        name = names[kind][_zipf(draws, NAMES_OF_A_CLASS, 1)[0]]
        more = " ".join(fillers[_zipf(draws, FILLERS, FILLERS_IN_A_CAPTION)])
        found.append(f"a {name} {SHADES[top]} above {SHADES[bottom]} {more}")
    return found


def _words() -> list[str]:
    """Return the vocabulary's words of one token each."""
    ends = "</w>"
    return sorted(
        word.removesuffix(ends)
        for word in SimpleTokenizer().encoder
        if word.endswith(ends)
        and len(word) > len(ends) + 3
        and word.removesuffix(ends).isascii()
        and word.removesuffix(ends).isalpha()
    )


def _zipf(draws: np.random.Generator, count: int, size: int) -> np.ndarray:
    shares = 1 / np.arange(1, count + 1)
    return draws.choice(count, size, p=shares / shares.sum())
