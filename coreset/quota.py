"""Quotas: how many samples of each group may be chosen, by places inside the groups."""

import math
from itertools import accumulate

import duckdb

from coreset.candidates import one_row
from coreset.errors import InvalidSpec
from coreset.select_spec import Quota

BY_VALUE = "value DESC, uid"

CLASS_SHARE = 0.01
ORDERS = {
    "proportional": f"(nth - 0.5) / size, {BY_VALUE}",
    "equal": f"nth, {BY_VALUE}",
    "distinct": f"CASE WHEN size < {CLASS_SHARE} * total THEN nth ELSE 1 END, {BY_VALUE}",
}
"""The first k by the place inside the group, or by that place as a share of the group."""


def make_allowed(db: duckdb.DuckDBPyConnection, source: str, quota: Quota, k: int | None) -> str:
    """Make the table `allowed` of those samples of a table (place, uid, value, label) that the quota lets through.

    Returns:
        SQL of the order in which they are taken.

    Raises:
        InvalidSpec: a group of `shares` has too few samples; names it.
    """
    if quota.shares is not None:
        assert k is not None
        _make_shared(db, source, quota.field, quota.shares, k)
        return BY_VALUE
    most = quota.max if k is None or quota.max_share is None else max(1, math.floor(quota.max_share * k + 1e-9))
    places = f"""
        SELECT place, uid, value, row_number() OVER (PARTITION BY label ORDER BY {BY_VALUE}) AS nth,
            count(*) OVER (PARTITION BY label) AS size, count(*) OVER () AS total FROM {source}
    """
    db.execute(f"CREATE TEMP TABLE allowed AS {places} {f'QUALIFY nth <= {most}' if most else ''}")
    return ORDERS.get(quota.balance or "", BY_VALUE)


def _make_shared(db: duckdb.DuckDBPyConnection, source: str, field: str, shares: dict[str, float], k: int) -> None:
    """Make `allowed` of the best of each named group, as many as its share of k, and of all others together."""
    upto = [round(share * k) for share in accumulate(shares.values())]
    wanted = dict(zip(shares, (b - a for a, b in zip([0, *upto], upto, strict=False)), strict=True))
    db.execute("CREATE TEMP TABLE shares (named VARCHAR, quota BIGINT)")
    db.executemany("INSERT INTO shares VALUES (?, ?)", [[label, count] for label, count in wanted.items()])
    rest = k - sum(wanted.values())
    db.execute(f"""
        CREATE TEMP TABLE allowed AS SELECT place, uid, value, named,
            row_number() OVER (PARTITION BY named ORDER BY {BY_VALUE}) AS nth
        FROM {source} LEFT JOIN shares ON label = named QUALIFY nth <= coalesce(quota, {rest})
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
