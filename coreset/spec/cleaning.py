"""The spec of a job that cleans a pool: which samples are suspects (docs/cleaning.md)."""

from pydantic import Field

from coreset.spec.base import FrozenModel
from coreset.spec.scores import Score
from coreset.spec.selection import SelectSpec, Weights


class CleanSpec(FrozenModel):
    """The suspects of a pool: the share of its samples that a ranking puts last.

    Attributes:
        fraction: suspects as a share of the samples with scores.
        by: scores to rank by, as in a selection; docs/cleaning.md says how the default was chosen.
    """

    fraction: float = Field(gt=0, lt=1, examples=[0.1])
    by: Weights = Field(default={Score.NEG_CLIP_LOSS: 1.0, Score.LOSS: 1.0})

    @property
    def rest(self) -> SelectSpec:
        """The selection of all but the suspects."""
        return SelectSpec(fraction=1 - self.fraction, by=self.by)
