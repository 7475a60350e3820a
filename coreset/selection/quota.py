"""Quotas, by places within the groups, and deduplication, which puts copies last."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate

import duckdb

from coreset.errors import InvalidSpec
from coreset.selection.candidates import one_row
from coreset.spec.selection import Quota, Rule

VALUE_ORDER = "value DESC, uid"
COPIES_LAST_ORDER = f"copy, {VALUE_ORDER}"

CLASS_SHARE = 0.01
"""Share of all samples from which on a group of `distinct` is a class, not copies."""

TURNS = {
    "proportional": "(nth - 0.5) / size",
    "equal": "nth",
    "target": "(nth - 0.5) / (coalesce(members, 0) + clusters * size / total)",
}
"""SQL of the turn in which a sample is taken, by balance. `target` adds on average one member of V per cluster, spread
as the pool is, so that clusters that V lacks come last, in the pool's proportions."""


def create_allowed(
    db: duckdb.DuckDBPyConnection, source: str, rule: Rule, k: int | None, target: Sequence[int] = ()
) -> str:
    """Create the table `allowed` of the samples that the quota admits, with `copy`, the rank among duplicates.

    Args:
        source: a table of place, uid, value, `label` for a quota, and `own` for `distinct`.
        target: number of samples of V in each cluster.

    Returns:
        SQL of the order in which samples are taken.

    Raises:
        InvalidSpec: a group of `shares` has too few samples.
    """
    _make_counted(db, source, rule)
    if rule.quota is None:
        db.execute("ALTER TABLE counted RENAME TO allowed")
        return COPIES_LAST_ORDER
    if rule.quota.shares is not None:
        assert k is not None
        _make_shared(db, rule.quota.field, rule.quota.shares, k)
    else:
        _make_placed(db, rule.quota, k, target)
    db.execute("DROP TABLE counted")
    return f"turn, {COPIES_LAST_ORDER}" if rule.quota.balance else COPIES_LAST_ORDER


def _make_counted(db: duckdb.DuckDBPyConnection, source: str, rule: Rule) -> None:
    """Create the table `counted` with `copy`: the place among duplicates, 1 without `distinct`."""
    columns = "place, uid, value" + (", label" if rule.quota else "")
    if rule.distinct is None:
        db.execute(f"CREATE TEMP TABLE counted AS SELECT {columns}, 1 AS copy FROM {source}")
        return
    (rows,) = one_row(db, f"SELECT count(*) FROM {source}")
    # Both over one window, so that tens of millions of rows are sorted once, with few columns.
    db.execute(f"""
        CREATE TEMP TABLE counted AS SELECT {columns},
            CASE WHEN count(*) OVER copies < {CLASS_SHARE} * {rows} THEN row_number() OVER copies ELSE 1 END AS copy
        FROM {source} WINDOW copies AS
            (PARTITION BY own ORDER BY {VALUE_ORDER} ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
    """)


def _make_placed(db: duckdb.DuckDBPyConnection, quota: Quota, k: int | None, target: Sequence[int]) -> None:
    """Create `allowed` by the place of each sample in its group, with `turn` if the quota balances."""
    nth = f"""
        SELECT *, row_number() OVER (PARTITION BY label ORDER BY {COPIES_LAST_ORDER}) AS nth
        FROM counted {_limit(quota, k)}
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
        CREATE TEMP TABLE allowed AS SELECT place, uid, value, copy, {TURNS[quota.balance]} AS turn
        FROM ({nth}) JOIN groups ON label IS NOT DISTINCT FROM named
    """)


def _make_members(db: duckdb.DuckDBPyConnection, target: Sequence[int]) -> None:
    db.execute("CREATE TEMP TABLE target (cluster VARCHAR, members BIGINT)")
    if target:
        db.executemany("INSERT INTO target VALUES (?, ?)", [[str(c), count] for c, count in enumerate(target)])


def _limit(quota: Quota, k: int | None) -> str:
    limit = quota.max if k is None or quota.max_share is None else max(1, math.floor(quota.max_share * k + 1e-9))
    return f"QUALIFY nth <= {limit}" if limit else ""


def _make_shared(db: duckdb.DuckDBPyConnection, field: str, shares: dict[str, float], k: int) -> None:
    """Create `allowed` of the best of each named group, up to its share of k, and of all others together."""
    wanted = wanted_of_shares(shares, k)
    db.execute("CREATE TEMP TABLE shares (named VARCHAR, quota BIGINT)")
    db.executemany("INSERT INTO shares VALUES (?, ?)", [[label, wanted[label]] for label in shares])
    db.execute(f"""
        CREATE TEMP TABLE allowed AS SELECT place, uid, value, copy, named,
            row_number() OVER (PARTITION BY named ORDER BY {COPIES_LAST_ORDER}) AS nth
        FROM counted LEFT JOIN shares ON label = named QUALIFY nth <= coalesce(quota, {wanted[None]})
    """)
    counts = dict(db.execute("SELECT named, count(*) FROM allowed GROUP BY named").fetchall())
    require_shares(field, wanted, counts)


def wanted_of_shares(shares: Mapping[str, float], k: int) -> dict[str | None, int]:
    """Return the number of samples of each label; of None that of all other labels together."""
    upto = [round(share * k) for share in accumulate(shares.values())]
    wanted: dict[str | None, int] = dict(
        zip(shares, (b - a for a, b in zip([0, *upto], upto, strict=False)), strict=True)
    )
    return wanted | {None: k - sum(wanted.values())}


def require_shares(field: str, wanted: Mapping[str | None, int], counts: Mapping[str | None, int]) -> None:
    """Raise InvalidSpec if a label has fewer samples than wanted; None stands for all other labels together."""
    for label, count in wanted.items():
        if counts.get(label, 0) < count:
            group = f"{field} {label}" if label is not None else "all groups that are not named"
            raise InvalidSpec(
                f"the quota wants {count:,} samples of {group}, which has {counts.get(label, 0):,} that can be ranked; "
                "lower its share, or k",
                field="quota",
                group=label,
                wanted=count,
                rankable=counts.get(label, 0),
            )


def require_enough(allowed: int, k: int | None) -> int:
    """Return k, or the number of samples that the quota admits if k is None. Raises InvalidSpec if k is more."""
    if k is not None and allowed < k:
        raise InvalidSpec(
            f"k is {k:,}, but the quota admits only {allowed:,} samples; raise the quota, or lower k",
            field="quota",
            got=k,
            allowed=allowed,
        )
    return allowed if k is None else k
