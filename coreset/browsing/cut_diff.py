"""The difference between a job's selection and a cut at another k, or by another ranking."""

from itertools import combinations
from typing import Any

from coreset.browsing.score_table import SELECTION, ScoreTable
from coreset.errors import InvalidInput
from coreset.schemas.cut_diff import CutDiff
from coreset.spec.scores import Score

MAX_SHOWN = 12


def cut_diff(table: ScoreTable, k: int, by: str) -> CutDiff:
    """Return the difference between the best k by a ranking and the selection.

    Raises:
        InvalidInput: the ranking does not exist.
    """
    if by not in table.rankings:
        raise InvalidInput(f"unknown ranking {by}; expected one of {', '.join(table.rankings)}", field="by")
    place, cut = f"place_{by}", table.position(k)
    enters, leaves = f"{place} <= {cut} AND NOT kept", f"{place} > {cut} AND kept"
    ((entering, leaving),) = table.query(
        f"SELECT count(*) FILTER ({enters}), count(*) FILTER ({leaves}) FROM score_table"
    )
    return CutDiff(
        k=k,
        by=by,
        score=next(iter(table.selection.spec.by)) if by == SELECTION else Score(by),
        entering=round(entering / table.share),
        leaving=round(leaving / table.share),
        enter=table.samples(enters, f"{place} DESC", MAX_SHOWN),
        leave=table.samples(leaves, place, MAX_SHOWN),
        **_at(table, k),
    )


def _at(table: ScoreTable, k: int) -> dict[str, Any]:
    """Return every score's cut and every pair's overlap at k."""
    cut, scores = table.position(k), table.plan.scores
    cuts = [f"min({score.value}) FILTER (place_{score.value} <= {cut})" for score in scores]
    pairs = combinations(table.rankings, 2)
    shared = [f"count(*) FILTER (greatest(place_{one}, place_{other}) <= {cut})" for one, other in pairs]
    (found,) = table.query(f"SELECT {', '.join(cuts + shared)} FROM score_table")
    counts = found[len(scores) :]
    return {
        "cuts": dict(zip(scores, found, strict=False)),
        "overlaps": [min(k, round(count / table.share)) for count in counts],
    }
