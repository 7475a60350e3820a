"""Soft sampling: k random samples, each up to `max_repeats` times, the same ones for the same seed.

A sample is expected min(max_repeats, exp((value - level) / temperature)) times, with the level at which these sum to k.
It is drawn that often, rounded down or up (systematic sampling over the samples in an order of their hashes). All sums
are of integers, so they do not depend on the order of adding.
"""

import hashlib
import math

import duckdb

from coreset.selection.candidates import one_row
from coreset.spec.selection import Sampling

UNITS_PER_COPY = 2**32
"""Units that stand for one copy of a sample, since sums are of integers."""

LEVEL_TOLERANCE = 1e-6
"""Share by which the sum may exceed k; all samples are scaled down by the excess."""

MAX_POWER = 50.0
"""Largest exponent: e to this is far more than any sample is drawn."""


def create_sampled(db: duckdb.DuckDBPyConnection, sampling: Sampling, k: int) -> None:
    """Create the table `drawn` (place, uid, value, copies) from the view `ranked`; its copies sum to k.

    Args:
        k: at most `max_repeats` times the number of rows.
    """
    level, total = _level(db, sampling, k)
    expected = _expected(sampling, level)
    start = int.from_bytes(hashlib.sha256(str(sampling.seed).encode()).digest()[:16], "big") % total
    upto = f"""
        SELECT *, sum(expected) OVER (ORDER BY shuffled, uid ROWS UNBOUNDED PRECEDING) AS upto FROM (
            SELECT *, {expected} AS expected, md5_number('{sampling.seed}/' || uid::VARCHAR) AS shuffled FROM ranked)
    """
    before, after = (
        f"({n} * {k}::HUGEINT + {start}::HUGEINT) // {total}::HUGEINT" for n in ("(upto - expected)", "upto")
    )
    db.execute(f"""
        CREATE TEMP TABLE drawn AS SELECT place, uid, value, ({after} - {before})::INTEGER AS copies
        FROM ({upto}) WHERE copies > 0
    """)


def _expected(sampling: Sampling, level: float) -> str:
    """Return SQL for a sample's expected copies, in units of 1 / UNITS_PER_COPY, at least one unit."""
    power = f"least((value - ({level!r})::DOUBLE) / {sampling.temperature!r}::DOUBLE, {MAX_POWER}::DOUBLE)"
    return f"ceil(least({sampling.max_repeats}::DOUBLE, exp({power})) * {UNITS_PER_COPY})::BIGINT"


def _sums(db: duckdb.DuckDBPyConnection, sampling: Sampling, level: float) -> tuple[int, int]:
    """Return the expected copies of all samples, and of those at max_repeats, in units of 1 / UNITS_PER_COPY."""
    most = sampling.max_repeats * UNITS_PER_COPY
    total, full = one_row(
        db,
        f"""
        SELECT sum(expected), coalesce(sum(expected) FILTER (expected = {most}), 0)
        FROM (SELECT {_expected(sampling, level)} AS expected FROM ranked)
        """,
    )
    return int(total), int(full)


def _level(db: duckdb.DuckDBPyConnection, sampling: Sampling, k: int) -> tuple[float, int]:
    """Return a level at which the expected copies sum to k or hardly more, and this sum.

    The next guess treats the samples at max_repeats as fixed; if it leaves the bracket, the middle is taken.
    """
    lowest, highest = one_row(db, "SELECT min(value), max(value) FROM ranked")
    reach = sampling.temperature * (math.log(sampling.max_repeats) + 1)
    low = lowest - max(reach, abs(lowest) * LEVEL_TOLERANCE)  # here every sample has max_repeats expected copies
    high = highest + sampling.temperature * MAX_POWER
    wanted, level, best = k * UNITS_PER_COPY, low, (low, _sums(db, sampling, low)[0])
    while best[1] > wanted * (1 + LEVEL_TOLERANCE):
        total, full = _sums(db, sampling, level)
        if total >= wanted:
            low, best = level, (level, total)
        else:
            high = level
        left = wanted * (1 + LEVEL_TOLERANCE / 2) - full
        level += sampling.temperature * math.log((total - full) / left) if total > full and left > 0 else math.inf
        if not low < level < high:
            level = (low + high) / 2
        if not low < level < high:
            break
    return best
