"""Expansion of shard URIs with brace ranges and `a::b`, bounded before any URI is made."""

import math
import re
from collections.abc import Iterator

from braceexpand import braceexpand  # pyright: ignore[reportMissingTypeStubs]

from coreset.errors import ShardUnreadable

MAX_SHARDS = 4_000_000
"""Largest number of shards of a pool: expanding them takes about 10 s. DataComp's largest pool has 1.3 million."""

MAX_CHARACTERS = 2**30
"""Largest total length of a pool's expanded URIs."""

MAX_DEPTH = 20
"""Largest depth of nested braces."""

_RANGE = re.compile(r"\{(-?\d{1,18})\.\.(-?\d{1,18})(?:\.\.-?\d{1,18})?\}")
_LONG_RANGE = re.compile(r"\{[^{},]*\d{19}[^{},]*\.\.|\.\.[^{},]*\d{19}")


def expand_uris(uris: list[str]) -> Iterator[str]:
    """Yield the URIs with `a::b` and brace ranges expanded, in order.

    Raises:
        ShardUnreadable: the call: more shards than MAX_SHARDS; the iteration: braces that do not match.
    """
    patterns = [piece.strip() for uri in uris for piece in uri.split("::")]
    counts = [_at_most(pattern) for pattern in patterns]
    if sum(counts) > MAX_SHARDS or _characters(patterns, counts) > MAX_CHARACTERS:
        raise ShardUnreadable(
            f"the braces may expand to more than {MAX_SHARDS:,} shards; split the pool into several jobs"
        )
    return (uri for pattern in patterns for uri in _expanded(pattern))


def _characters(patterns: list[str], counts: list[int]) -> int:
    return sum(len(pattern) * count for pattern, count in zip(patterns, counts, strict=True))


def _expanded(pattern: str) -> Iterator[str]:
    try:
        yield from braceexpand(pattern)
    except ValueError as error:
        raise ShardUnreadable(
            f"{pattern}: the braces do not match; write ranges as {{000..123}} and lists as {{a,b}}", uri=pattern
        ) from error


def _at_most(pattern: str) -> int:
    """Return an upper bound of the number of URIs: the product of all lengths of ranges and lists, nested or not.

    Raises:
        ShardUnreadable: numbers of 19 digits or more, or braces nested deeper than MAX_DEPTH.
    """
    if _LONG_RANGE.search(pattern) or _depth(pattern) > MAX_DEPTH:
        raise ShardUnreadable(
            f"{pattern[:100]}: braces nest deeper than {MAX_DEPTH} or have numbers of 19 digits or more; simplify them",
            uri=pattern[:100],
        )
    ranges = [abs(int(last) - int(first)) + 1 for first, last in _RANGE.findall(pattern)]
    letters = 52 ** len(re.findall(r"\{[A-Za-z]\.\.[A-Za-z]", pattern))
    lists = [commas + 1 for commas in _commas(pattern)]
    return math.prod(ranges) * letters * math.prod(lists)


def _depth(pattern: str) -> int:
    depth = deepest = 0
    for character in pattern:
        depth += (character == "{") - (character == "}")
        deepest = max(deepest, depth)
    return deepest


def _commas(pattern: str) -> list[int]:
    """Return the number of commas directly inside each pair of braces."""
    found: list[int] = []
    open_braces: list[int] = []
    for character in pattern:
        if character == "{":
            open_braces.append(0)
        elif character == "," and open_braces:
            open_braces[-1] += 1
        elif character == "}" and open_braces:
            found.append(open_braces.pop())
    return found + open_braces
