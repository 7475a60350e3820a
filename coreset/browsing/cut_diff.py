"""What enters and what leaves a job's selection when it is cut at another k, or by another ranking."""

from itertools import combinations
from typing import Any

from coreset.browsing.score_table import SELECTION, Look
from coreset.errors import InvalidInput
from coreset.schemas.sample import SampleView
from coreset.spec.base import Strict
from coreset.spec.scores import Score

SHOWN = 12


class Changes(Strict):
    """The best k by a ranking, against the job's selection.

    Attributes:
        score: the one that is told with each sample.
        entering, leaving: samples that only the one, only the other has; of a draw, as many as it stands for.
        enter, leave: those next to the cut, at most SHOWN.
        cuts: by score, its value for the last of its best k samples.
        overlaps: by pair of rankings, in the summary's order, how many of the one's best k are in the other's.
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
        **_at(look, k),
    )


def _at(look: Look, k: int) -> dict[str, Any]:
    """Return every score's cut and every pair's overlap at k."""
    cut, scores = look.position(k), look.plan.scores
    cuts = [f"min({score.value}) FILTER (place_{score.value} <= {cut})" for score in scores]
    pairs = combinations(look.rankings, 2)
    shared = [f"count(*) FILTER (greatest(place_{one}, place_{other}) <= {cut})" for one, other in pairs]
    (found,) = look.query(f"SELECT {', '.join(cuts + shared)} FROM looked")
    counts = found[len(scores) :]
    return {
        "cuts": dict(zip(scores, found, strict=False)),
        "overlaps": [min(k, round(count / look.share)) for count in counts],
    }
