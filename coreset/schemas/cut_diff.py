"""The difference between a job's selection and another cut."""

from coreset.schemas.sample import SampleView
from coreset.spec.base import FrozenModel
from coreset.spec.scores import Score


class CutDiff(FrozenModel):
    """The best k by a ranking, compared with the job's selection.

    Attributes:
        score: the score shown with each sample.
        entering, leaving: number of samples that only the other cut has, and that only the selection has; estimates if
            the table is a draw of the pool.
        enter, leave: the samples of these that are next to the cut, a dozen at most.
        cuts: by score, its value for the last of its best k samples.
        overlaps: by pair of rankings, in the summary's order, the number of samples in both best k.
    """

    k: int
    by: str
    score: Score
    entering: int
    leaving: int
    enter: list[SampleView]
    leave: list[SampleView]
    cuts: dict[Score, float]
    overlaps: list[int]
