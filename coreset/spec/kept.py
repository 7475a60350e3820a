"""What a job keeps beside its scores, on request, for later choices and other tools."""

from collections.abc import Collection
from typing import Literal, get_args

from coreset.spec.scores import Score

Kept = Literal["embeddings", "losses"]
KINDS_KEPT: tuple[Kept, ...] = get_args(Kept)


def require_computed(keep: Collection[Kept], scores: Collection[Score], embeds: bool) -> None:
    """Raise ValueError if something is to be kept that no pass of the job computes."""
    if "embeddings" in keep and not embeds:
        raise ValueError("keep: embeddings are those of the pass for clip_score; add clip_score to `scores`")
    if "losses" in keep and Score.LOSS not in scores:
        raise ValueError("keep: losses are those that the score loss is the mean of; add loss to `scores`")
