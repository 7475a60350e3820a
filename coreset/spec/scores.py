"""The scores that a job can compute: one table for spec, workers, selection, docs and report.

A higher score always means "keep". docs/method.md derives the estimators and states the sign.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Score(StrEnum):
    DIFFIN = "diffin"
    DIFFIN_EQ9 = "diffin_eq9"
    TRACIN = "tracin"
    CLIP_SCORE = "clip_score"
    NEG_CLIP_LOSS = "neg_clip_loss"
    LOSS = "loss"
    SELF_INFLUENCE = "self_influence"
    RANDOM = "random"


@dataclass(frozen=True)
class ScoreInfo:
    """Texts and properties of a score.

    Attributes:
        label: its name in tables and charts.
        meaning: one line, with the unit if there is one.
        per_checkpoint: whether it is a sum over checkpoints, whose terms the part stores.
        caution: a warning for selections by this score; None if no measurement speaks against it.
    """

    label: str
    meaning: str
    per_checkpoint: bool = False
    caution: str | None = None


SCORES: dict[Score, ScoreInfo] = {
    Score.DIFFIN: ScoreInfo(
        "Diff-In", "change of the target's loss if the sample were left out of training, by the full recursion", True
    ),
    Score.DIFFIN_EQ9: ScoreInfo(
        "Diff-In eq. 9",
        "the paper's closed form with its literal sign: a second-order correction",
        True,
        "diffin_eq9, with its literal sign, ran against the truth in all seven trainings whose truth could be measured "
        "by doing them again without some samples: Pearson's correlation with the change of the validation loss was "
        "-0.67 to -0.36. Its best "
        "samples tend to be those that training misses least; rank by diffin (docs/method.md, section 8)",
    ),
    Score.TRACIN: ScoreInfo("TracIn", "sum over checkpoints of lr / N times <grad of target, grad of sample>", True),
    Score.CLIP_SCORE: ScoreInfo("CLIP score", "cosine of image and caption embeddings, -1 to 1"),
    Score.NEG_CLIP_LOSS: ScoreInfo(
        "negCLIPLoss", "CLIP score less the log-sum-exp of the cosines with the reference batch"
    ),
    Score.LOSS: ScoreInfo("Loss", "minus the sample's contrastive loss, averaged over the checkpoints"),
    Score.SELF_INFLUENCE: ScoreInfo(
        "Self-influence", "minus the sample's influence on its own loss: lowest where it was learnt from itself alone"
    ),
    Score.RANDOM: ScoreInfo("Random", "uniform in [0, 1), from the uid and the seed alone"),
}

ESTIMATORS: tuple[Score, ...] = tuple(score for score, info in SCORES.items() if info.per_checkpoint)

RUN_FREE_SCORES: tuple[Score, ...] = (Score.CLIP_SCORE, Score.NEG_CLIP_LOSS, Score.RANDOM)
"""Scores that need no training run if a job names a CLIP model."""

DEFAULT_SCORES: tuple[Score, ...] = (Score.DIFFIN, Score.CLIP_SCORE, Score.NEG_CLIP_LOSS, Score.RANDOM)
"""Scores of a job whose spec names none: what the recipes read, and what costs no further pass: 11
passes a sample with five checkpoints; loss, tracin and diffin_eq9 make it 25 to 35 (docs/performance.md)."""


def cautions(scores: Iterable[Score]) -> list[str]:
    """Return the warnings for selections by these scores."""
    return [caution for score in scores if (caution := SCORES[score].caution)]
