"""Expansion of shard URIs with brace ranges and `a::b`, lazy, and bounded before any URI is made.

braceexpand makes every element of a range before it returns the first one, so it gets the pieces between ranges only:
their lists of alternatives are short. Ranges within such a list are few enough for it, or refused.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from braceexpand import braceexpand  # pyright: ignore[reportMissingTypeStubs]

from coreset.errors import ShardUnreadable

MAX_SHARDS = 4_000_000
"""Largest number of shards of a pool: expanding them takes about 10 s. DataComp's largest pool has 1.3 million."""

MAX_CHARACTERS = 2**30
"""Largest total length of a pool's expanded URIs."""

MAX_DEPTH = 20
"""Largest depth of nested braces."""

MAX_RANGES = 20
"""Largest number of ranges of a pattern."""

MAX_ALTERNATIVES = 100_000
"""Largest number of alternatives that the lists between two ranges of a pattern make."""

_RANGE = re.compile(r"\{(-?\d{1,18})\.\.(-?\d{1,18})(?:\.\.(-?\d{1,18}))?\}")
_DIGITS = re.compile(r"\{-?(\d*)\.\.-?(\d*)(?:\.\.-?(\d*))?")
_LETTERS = re.compile(r"\{[A-Za-z]\.\.[A-Za-z]")


@dataclass(frozen=True)
class Range:
    """A brace range of integers: `{000..123}` or `{0..100..5}`."""

    values: range
    width: int

    def __iter__(self) -> Iterator[str]:
        return (str(value).zfill(self.width) for value in self.values)


def expand_uris(uris: list[str]) -> Iterator[str]:
    """Yield the URIs with `a::b` and brace ranges expanded, in order.

    Raises:
        ShardUnreadable: the call: more shards than MAX_SHARDS; the iteration: braces that do not match.
    """
    patterns = patterns_of(uris)
    return (uri for pattern in patterns for uri in expand(pattern))


def patterns_of(uris: list[str]) -> list[str]:
    """Return the patterns that stand between `::`, after their number of shards was bounded.

    Raises:
        ShardUnreadable: more than MAX_SHARDS.
    """
    patterns = [piece.strip() for uri in uris for piece in uri.split("::")]
    counts = [_at_most(pattern) for pattern in patterns]
    if sum(counts) > MAX_SHARDS or _characters(patterns, counts) > MAX_CHARACTERS:
        raise ShardUnreadable(
            f"the braces may expand to {_rounded(sum(counts))} shards, {MAX_SHARDS:,} are allowed; split the pool into "
            "several jobs"
        )
    return patterns


def expand(pattern: str) -> Iterator[str]:
    """Yield the URIs of one pattern, as the shell does: the last braces vary fastest.

    Raises:
        ShardUnreadable: at its turn; braces that do not match.
    """
    try:
        return _combined("", _parts(pattern), 0)
    except ValueError as error:
        raise ShardUnreadable(
            f"{pattern[:200]}: the braces do not match; write ranges as {{000..123}} and lists as {{a,b}}",
            uri=pattern[:200],
        ) from error


def collapsed(pattern: str) -> str:
    """Return a pattern with the first element in the place of each range outside of lists."""
    return "".join(piece if isinstance(piece, str) else next(iter(piece)) for piece in _split(pattern))


def _parts(pattern: str) -> list[list[str] | Range]:
    return [list(braceexpand(part)) if isinstance(part, str) else part for part in _split(pattern)]


def _combined(head: str, parts: list[list[str] | Range], index: int) -> Iterator[str]:
    if index == len(parts):
        yield head
        return
    for piece in parts[index]:
        yield from _combined(head + piece, parts, index + 1)


def _split(pattern: str) -> list[str | Range]:
    """Return the ranges outside of lists, and the texts between them."""
    parts: list[str | Range] = []
    start = depth = position = 0
    while position < len(pattern):
        found = _RANGE.match(pattern, position) if depth == 0 and pattern[position] == "{" else None
        if found and int(found[3] or 1):
            parts += [pattern[start:position], _range(*found.groups())]
            start = position = found.end()
            continue
        if pattern[position] == "\\":  # the next character is no brace of ours
            position += 1
        elif pattern[position] in "{}":
            depth += 1 if pattern[position] == "{" else -1
        position += 1
    return [*parts, pattern[start:]]


def _range(first: str, last: str, step: str | None) -> Range:
    low, high, stride = int(first), int(last), abs(int(step or 1))
    padded = any(re.match(r"-?0\d", number) for number in (first, last))
    width = max(len(first), len(last)) if padded else 0
    return Range(range(low, high + 1, stride) if low <= high else range(low, high - 1, -stride), width)


def _characters(patterns: list[str], counts: list[int]) -> int:
    return sum(len(pattern) * count for pattern, count in zip(patterns, counts, strict=True))


def _at_most(pattern: str) -> int:
    """Return an upper bound of the number of URIs: the product of all lengths of ranges and lists, nested or not.

    Raises:
        ShardUnreadable: numbers of 19 digits or more, braces deeper than MAX_DEPTH, lists longer than MAX_ALTERNATIVES.
    """
    if "{" not in pattern:
        return 1
    long = any(len(number or "") > 18 for numbers in _DIGITS.findall(pattern) for number in numbers)
    if long or _depth(pattern) > MAX_DEPTH:
        raise _unexpandable(pattern, f"numbers have 18 digits and braces {MAX_DEPTH} levels at most")
    parts = _split(pattern)
    lists = math.prod(_alternatives(part) for part in parts if isinstance(part, str))
    if lists > MAX_ALTERNATIVES:
        raise _unexpandable(pattern, f"its lists may make {_rounded(lists)} combinations, {MAX_ALTERNATIVES:,} at most")
    ranges = [len(part.values) for part in parts if isinstance(part, Range)]
    if len(ranges) > MAX_RANGES:
        raise _unexpandable(pattern, f"it has {len(ranges)} ranges, {MAX_RANGES} at most")
    return lists * math.prod(ranges)


def _alternatives(text: str) -> int:
    ranges = [abs(int(last) - int(first)) + 1 for first, last, _ in _RANGE.findall(text)]
    letters = 52 ** len(_LETTERS.findall(text))
    return math.prod(ranges) * letters * math.prod(commas + 1 for commas in _commas(text))


def _unexpandable(pattern: str, why: str) -> ShardUnreadable:
    return ShardUnreadable(f"{pattern[:100]}: {why}; list the shards in several patterns", uri=pattern[:100])


def _rounded(number: int) -> str:
    return f"{number:,}" if number < 10**12 else f"10^{len(str(number)) - 1}" if number < 10**4000 else "countless"


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
