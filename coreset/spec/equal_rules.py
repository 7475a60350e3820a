"""One way to write rules that select the same samples, so that an evaluation trains each of them once."""

from typing import TypeVar

from coreset.spec.filters import Filter, label_text
from coreset.spec.scores import Score
from coreset.spec.selection import Rule

DIGITS = 12
"""Digits of a ratio of weights that count: 0.7 to 0.3 is 7 to 3."""

AnyRule = TypeVar("AnyRule", bound=Rule)


def canonical(rule: AnyRule) -> AnyRule:
    """Return the rule as all that select the same samples are written.

    Weights are relative to the smallest; of intersections and unions, and of a single score, they are signs. Scores,
    filters and labels have one order. How a single score is combined does not matter.
    """
    least = min(abs(weight) for weight in rule.by.values())
    counts = rule.combine == "mix" and len(rule.by) > 1
    by = {
        score: round(weight / least, DIGITS) if counts else (1.0 if weight > 0 else -1.0)
        for score, weight in sorted(rule.by.items(), key=lambda pair: _place(pair[0]))
    }
    return rule.model_copy(
        update={
            "by": by,
            "combine": rule.combine if len(by) > 1 else "mix",
            "within": rule.within and dict(sorted(rule.within.items())),
            "filters": {name: _ordered(rule.filters[name]) for name in sorted(rule.filters)},
        }
    )


def _place(score: Score) -> tuple[bool, int]:
    """Return a score's place: CLIP score last, as the default rules have it."""
    return score is Score.CLIP_SCORE, list(Score).index(score)


def _ordered(wanted: Filter) -> Filter:
    labels = {name: getattr(wanted, name) for name in ("any_of", "none_of")}
    return wanted.model_copy(update={name: sorted(found, key=label_text) for name, found in labels.items() if found})
