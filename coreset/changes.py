"""What enters and what leaves a job's selection when it is cut at another k, or by another ranking."""

from coreset.errors import InvalidInput
from coreset.look import SELECTION, Look
from coreset.sample_view import SampleView
from coreset.scores import Score
from coreset.strict import Strict

SHOWN = 12


class Changes(Strict):
    """The best k by a ranking, against the job's selection.

    Attributes:
        score: the one that is told with each sample.
        entering, leaving: samples that only the one, only the other has; of a draw, as many as it stands for.
        enter, leave: those next to the cut, at most SHOWN.
    """

    k: int
    by: str
    score: Score
    entering: int
    leaving: int
    enter: list[SampleView]
    leave: list[SampleView]


def changes(look: Look, k: int, by: str) -> Changes:
    """Return what changes.

    Raises:
        InvalidInput: there is no such ranking.
    """
    if by not in look.rankings:
        raise InvalidInput(f"there is no ranking {by}; there are {', '.join(look.rankings)}", field="by")
    place, cut = f"place_{by}", look.position(k)
    enters, leaves = f"{place} <= {cut} AND NOT kept", f"{place} > {cut} AND kept"
    ((entering, leaving),) = look.query(f"SELECT count(*) FILTER ({enters}), count(*) FILTER ({leaves}) FROM looked")
    return Changes(
        k=k,
        by=by,
        score=next(iter(look.selection.spec.by)) if by == SELECTION else Score(by),
        entering=round(entering / look.share),
        leaving=round(leaving / look.share),
        enter=look.samples(enters, f"{place} DESC", SHOWN),
        leave=look.samples(leaves, place, SHOWN),
    )
