"""Shard URIs with brace ranges and `a::b`, expanded; how many there will be is known before any is made."""

import math
import re
from collections.abc import Iterator

from braceexpand import braceexpand  # pyright: ignore[reportMissingTypeStubs]

from coreset.errors import ShardUnreadable

MOST_SHARDS = 4_000_000
"""Of one pool; DataComp's largest has 1.3 million. So many URIs are expanded in about 10 s."""
MOST_CHARACTERS = 2**30
DEEPEST = 20

_RANGE = re.compile(r"\{(-?\d{1,18})\.\.(-?\d{1,18})(?:\.\.-?\d{1,18})?\}")
_LONG_RANGE = re.compile(r"\{[^{},]*\d{19}[^{},]*\.\.|\.\.[^{},]*\d{19}")


def expand(uris: list[str]) -> Iterator[str]:
    """Yield the URIs with `a::b` and brace ranges expanded, in order.

    Raises:
        ShardUnreadable: at once where there are too many, else when its turn comes: a brace expression that cannot be
            read.
    """
    patterns = [piece.strip() for uri in uris for piece in uri.split("::")]
    counts = [_at_most(pattern) for pattern in patterns]
    if sum(counts) > MOST_SHARDS or _characters(patterns, counts) > MOST_CHARACTERS:
        raise ShardUnreadable(f"the braces may make more than {MOST_SHARDS:,} shards; split the pool into several jobs")
    return (uri for pattern in patterns for uri in _expanded(pattern))


def _characters(patterns: list[str], counts: list[int]) -> int:
    return sum(len(pattern) * count for pattern, count in zip(patterns, counts, strict=True))


def _expanded(pattern: str) -> Iterator[str]:
    try:
        yield from braceexpand(pattern)
    except ValueError as error:
        raise ShardUnreadable(f"{pattern}: the braces do not match", uri=pattern) from error


def _at_most(pattern: str) -> int:
    """Return a bound of the number of URIs: lengths of ranges and of lists multiplied, as if none stood in another.

    Raises:
        ShardUnreadable: numbers or depth that nobody means.
    """
    if _LONG_RANGE.search(pattern) or _depth(pattern) > DEEPEST:
        raise ShardUnreadable(f"{pattern[:100]}: such braces are not expanded", uri=pattern[:100])
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
    """Return the number of commas directly in each pair of braces."""
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
