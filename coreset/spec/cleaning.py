"""Which samples are suspect: what a job that cleans a pool is asked by (docs/cleaning.md)."""

from pydantic import Field

from coreset.spec.base import Strict
from coreset.spec.scores import Score
from coreset.spec.selection import SelectSpec, Weights


class CleanSpec(Strict):
    """The suspects of a pool: a share of its samples, those that a ranking puts last.

    Attributes:
        fraction: share of the samples with scores that is suspected.
        by: what to rank by, as in a selection; docs/cleaning.md tells how the default was chosen.
    """

    fraction: float = Field(gt=0, lt=1, examples=[0.1])
    by: Weights = Field(default={Score.NEG_CLIP_LOSS: 1.0, Score.LOSS: 1.0})

    @property
    def rest(self) -> SelectSpec:
        """The selection of all but the suspects."""
        return SelectSpec(fraction=1 - self.fraction, by=self.by)
