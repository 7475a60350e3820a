"""Agreement of the rankings with CLIP score."""

import math

import duckdb

from coreset.schemas.manifest import Comparison
from coreset.schemas.plan import Plan
from coreset.selection.ranking import combined_value, create_ranks, open_samples, rank_terms, with_ranks
from coreset.spec.scores import Score
from coreset.storage.storage import Storage

DIFFIN_WITH_CLIP_SCORE = "diffin+clip_score"

SAMPLED_ROWS = 2_000_000
"""Rows that are compared of a larger pool, drawn by uid; the results then err in the third digit."""


def compare_with_clip_score(storage: Storage, plan: Plan, k: int) -> dict[str, Comparison]:
    """Return each ranking's agreement with CLIP score over the unique uids; {} if the plan has no CLIP score.

    The rankings are the plan's scores, and Diff-In mixed with CLIP score by rank.
    """
    if Score.CLIP_SCORE not in plan.scores:
        return {}
    rankings = _rankings(plan)
    best = ", ".join(f'max({value}) AS "{name}"' for name, value in rankings.items())
    with open_samples(storage, plan) as db:
        share = _sample(db, plan)
        create_ranks(db, "scored", plan.scores)
        db.execute(
            f"CREATE TEMP TABLE rankings AS SELECT uid, {best} FROM {with_ranks('scored', plan.scores)} GROUP BY uid"
        )
        create_ranks(db, "rankings", rankings)
        return {name: _agreement(db, name, max(1, round(share * k))) for name in rankings}


def _sample(db: duckdb.DuckDBPyConnection, plan: Plan) -> float:
    """Create the table `scored` of the samples to compare; return their share of all."""
    (rows,) = db.execute("SELECT count(*) FROM samples").fetchone() or (0,)
    stride = max(1, rows // SAMPLED_ROWS)
    scores = ", ".join(plan.scores)
    db.execute(f"CREATE TEMP TABLE scored AS SELECT uid, {scores} FROM samples WHERE hash(uid) % {stride} = 0")
    (sampled,) = db.execute("SELECT count(*) FROM scored").fetchone() or (0,)
    return sampled / rows if rows else 0.0


def _rankings(plan: Plan) -> dict[str, str]:
    """Return the SQL of each ranking's value by name."""
    values = {score.value: f"rank_of_{score.value}" for score in plan.scores}
    if Score.DIFFIN in plan.scores:
        values[DIFFIN_WITH_CLIP_SCORE] = combined_value(rank_terms({Score.DIFFIN: 1.0, Score.CLIP_SCORE: 1.0}), "mix")
    return values


def _agreement(db: duckdb.DuckDBPyConnection, name: str, k: int) -> Comparison:
    clip = Score.CLIP_SCORE.value
    row = db.execute(f"""
        SELECT count(*) FILTER (place <= {k} AND clip_place <= {k}) / {k}, corr(rank, clip_rank) FROM (
            SELECT row_number() OVER (ORDER BY "{name}" DESC, uid) AS place, "rank_of_{name}" AS rank,
                row_number() OVER (ORDER BY {clip} DESC, uid) AS clip_place, "rank_of_{clip}" AS clip_rank
            FROM {with_ranks("rankings", {name, clip})})
    """).fetchone()
    assert row is not None
    overlap, spearman = row
    return Comparison(
        overlap_clip_score=overlap,
        spearman_clip_score=spearman if spearman is not None and math.isfinite(spearman) else None,
    )
