"""Quotas: how many samples of each group may be chosen, by places inside the groups; and copies, which go last."""

import math
from collections.abc import Sequence
from itertools import accumulate

import duckdb

from coreset.errors import InvalidSpec
from coreset.selection.candidates import one_row
from coreset.spec.selection import Quota, Rule

BY_VALUE = "value DESC, uid"
COPIES_LAST = f"copy, {BY_VALUE}"

CLASS_SHARE = 0.01
PLACES = {
    "proportional": "(nth - 0.5) / size",
    "equal": "nth",
    "target": "(nth - 0.5) / (coalesce(members, 0) + clusters * size / total)",
}
"""What decides who is among the first k. That of `target` counts one more member of V a cluster on average, spread as
the pool is: so what V lacks comes last, and in the pool's shares."""


def make_allowed(
    db: duckdb.DuckDBPyConnection, source: str, rule: Rule, k: int | None, target: Sequence[int] = ()
) -> str:
    """Make the table `allowed` of those samples of a table that the quota lets through, copies known.

    Args:
        source: of (place, uid, value, `label` for a quota, `own` for `distinct`).
        target: how many samples of V each cluster has.

    Returns:
        SQL of the order in which they are taken.

    Raises:
        InvalidSpec: a group of `shares` has too few samples; names it.
    """
    _make_counted(db, source, rule)
    if rule.quota is None:
        db.execute("ALTER TABLE counted RENAME TO allowed")
        return COPIES_LAST
    if rule.quota.shares is not None:
        assert k is not None
        _make_shared(db, rule.quota.field, rule.quota.shares, k)
    else:
        _make_placed(db, rule.quota, k, target)
    db.execute("DROP TABLE counted")
    return f"turn, {COPIES_LAST}" if rule.quota.balance else COPIES_LAST


def _make_counted(db: duckdb.DuckDBPyConnection, source: str, rule: Rule) -> None:
    """Make the table `counted`: `copy` is the place among those that are alike, 1 where nothing says who is."""
    columns = "place, uid, value" + (", label" if rule.quota else "")
    if rule.distinct is None:
        db.execute(f"CREATE TEMP TABLE counted AS SELECT {columns}, 1 AS copy FROM {source}")
        return
    (rows,) = one_row(db, f"SELECT count(*) FROM {source}")
    # Both over one window: tens of millions of rows are sorted once, and what is sorted is narrow.
    db.execute(f"""
        CREATE TEMP TABLE counted AS SELECT {columns},
            CASE WHEN count(*) OVER alike < {CLASS_SHARE} * {rows} THEN row_number() OVER alike ELSE 1 END AS copy
        FROM {source} WINDOW alike AS
            (PARTITION BY own ORDER BY {BY_VALUE} ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
    """)


def _make_placed(db: duckdb.DuckDBPyConnection, quota: Quota, k: int | None, target: Sequence[int]) -> None:
    """Make `allowed` of those whose place in their group the quota lets through, with `turn` where it balances."""
    nth = f"""
        SELECT *, row_number() OVER (PARTITION BY label ORDER BY {COPIES_LAST}) AS nth FROM counted {_limit(quota, k)}
    """
    if quota.balance is None:
        db.execute(f"CREATE TEMP TABLE allowed AS SELECT place, uid, value, copy FROM ({nth})")
        return
    _make_members(db, target)
    (total,) = one_row(db, "SELECT count(*) FROM counted")
    db.execute(f"""
        CREATE TEMP TABLE groups AS
        SELECT label AS named, count(*) AS size, any_value(members) AS members, {max(len(target), 1)} AS clusters,
            {total} AS total
        FROM counted LEFT JOIN target ON label = cluster GROUP BY label
    """)
    db.execute(f"""
        CREATE TEMP TABLE allowed AS SELECT place, uid, value, copy, {PLACES[quota.balance]} AS turn
        FROM ({nth}) JOIN groups ON label IS NOT DISTINCT FROM named
    """)


def _make_members(db: duckdb.DuckDBPyConnection, target: Sequence[int]) -> None:
    db.execute("CREATE TEMP TABLE target (cluster VARCHAR, members BIGINT)")
    if target:
        db.executemany("INSERT INTO target VALUES (?, ?)", [[str(c), count] for c, count in enumerate(target)])


def _limit(quota: Quota, k: int | None) -> str:
    most = quota.max if k is None or quota.max_share is None else max(1, math.floor(quota.max_share * k + 1e-9))
    return f"QUALIFY nth <= {most}" if most else ""


def _make_shared(db: duckdb.DuckDBPyConnection, field: str, shares: dict[str, float], k: int) -> None:
    """Make `allowed` of the best of each named group, as many as its share of k, and of all others together."""
    upto = [round(share * k) for share in accumulate(shares.values())]
    wanted = dict(zip(shares, (b - a for a, b in zip([0, *upto], upto, strict=False)), strict=True))
    db.execute("CREATE TEMP TABLE shares (named VARCHAR, quota BIGINT)")
    db.executemany("INSERT INTO shares VALUES (?, ?)", [[label, count] for label, count in wanted.items()])
    rest = k - sum(wanted.values())
    db.execute(f"""
        CREATE TEMP TABLE allowed AS SELECT place, uid, value, copy, named,
            row_number() OVER (PARTITION BY named ORDER BY {COPIES_LAST}) AS nth
        FROM counted LEFT JOIN shares ON label = named QUALIFY nth <= coalesce(quota, {rest})
    """)
    found = dict(db.execute("SELECT named, count(*) FROM allowed GROUP BY named").fetchall())
    for label, count in [*wanted.items(), (None, rest)]:
        if found.get(label, 0) < count:
            group = f"{field} {label}" if label is not None else "all groups that are not named"
            raise InvalidSpec(
                f"the quota wants {count:,} samples of {group}, which has {found.get(label, 0):,} that can be ranked; "
                "lower its share, or k",
                field="quota",
                group=label,
                wanted=count,
                rankable=found.get(label, 0),
            )


def require_enough(db: duckdb.DuckDBPyConnection, k: int | None) -> int:
    """Return k, or how many the quota lets through if k is None. Raises InvalidSpec if k is more."""
    (allowed,) = one_row(db, "SELECT count(*) FROM allowed")
    if k is not None and allowed < k:
        raise InvalidSpec(
            f"k is {k:,}, but the quota lets only {int(allowed):,} samples through; raise the quota, or lower k",
            field="quota",
            got=k,
            allowed=int(allowed),
        )
    return int(allowed) if k is None else k
