"""A selection's rule as one sentence for people: report, page and command line show the same words."""

from collections.abc import Iterable

from coreset.spec.filters import Filter
from coreset.spec.scores import SCORES, Score
from coreset.spec.selection import Quota, Rule, Sampling

MAX_VALUES = 8
"""Number of values of a list that are named; the others are counted."""

_SCALED = {"rank": "ranks", "zscore": "standardised scores", "raw": "raw scores"}
_BALANCED = {
    "target": "each {field} has the share that it has in the target",
    "proportional": "the same share of each {field}",
    "equal": "the same number of each {field}",
}


def describe_rule(rule: Rule) -> str:
    """Return everything that decides which samples a rule selects, in words. A resolved rule is described in full."""
    if rule.recipe and rule.within is None:
        rule = rule.with_recipe(clusters=True)
    clauses = [_ranking(rule)]
    clauses += [f"{SCORES[score].label} ranked within each {column}" for score, column in rule.rank_groups.items()]
    if rule.winsorise:
        clauses.append(f"the extreme {_percent(rule.winsorise)} at each end of a score clipped")
    clauses += [f"only samples with {_condition(name, wanted)}" for name, wanted in rule.filters.items()]
    threshold = getattr(rule, "threshold", None)
    if threshold is not None:
        clauses.append(f"only samples with a value of at least {threshold:g}")
    clauses += [_quota(rule.quota)] if rule.quota else []
    clauses += [f"one sample of each {rule.distinct} before a second of any"] if rule.distinct else []
    clauses += [_sampling(rule.sampling)] if rule.sampling else []
    return (f"recipe {rule.recipe}: " if rule.recipe else "") + "; ".join(clauses)


def _ranking(rule: Rule) -> str:
    scaled = _SCALED[rule.scale]
    if len(rule.by) == 1:
        ((score, weight),) = rule.by.items()
        order = "highest" if weight > 0 else "lowest"
        return f"{SCORES[score].label}, {order} first" + (f" ({scaled})" if rule.scale != "rank" else "")
    equal = rule.combine != "mix" or len(set(map(abs, rule.by.values()))) == 1
    terms = _listed(_term(score, weight, equal) for score, weight in rule.by.items())
    if rule.combine == "mix":
        return f"{'' if equal else 'weighted '}mean of the {scaled} of {terms}"
    return f"in the top by {'every' if rule.combine == 'intersection' else 'any'} one of {terms}"


def _term(score: Score, weight: float, equal: bool) -> str:
    notes = ([] if equal else [f"weight {abs(weight):g}"]) + (["reversed"] if weight < 0 else [])
    return SCORES[score].label + (f" ({', '.join(notes)})" if notes else "")


def _condition(name: str, wanted: Filter) -> str:
    bounds = (
        ("at least", wanted.min),
        ("at most", wanted.max),
        ("a rank of at least", wanted.min_rank),
        ("a rank of at most", wanted.max_rank),
    )
    found = [f"{words} {bound:g}" for words, bound in bounds if bound is not None]
    lists = (("one of", wanted.any_of), ("none of", wanted.none_of))
    found += [f"{words} {_few(values)}" for words, values in lists if values is not None]
    return f"{name} {' and '.join(found)}"


def _quota(quota: Quota) -> str:
    if quota.max is not None:
        return f"at most {quota.max:,} samples of each {quota.field}"
    if quota.max_share is not None:
        return f"at most {_percent(quota.max_share)} of the selection from each {quota.field}"
    if quota.shares is not None:
        shares = [f"{_percent(share)} {label}" for label, share in quota.shares.items()]
        return f"shares by {quota.field}: {_few(shares)}"
    return _BALANCED[quota.balance or ""].format(field=quota.field)


def _sampling(sampling: Sampling) -> str:
    repeats = f", each at most {sampling.max_repeats:,} times" if sampling.max_repeats > 1 else ""
    return f"drawn at random, temperature {sampling.temperature:g}{repeats}, seed {sampling.seed}"


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _few(values: Iterable[object]) -> str:
    named = [str(value) for value in values]
    return ", ".join(named[:MAX_VALUES]) + (f" and {len(named) - MAX_VALUES} more" if len(named) > MAX_VALUES else "")


def _listed(terms: Iterable[str]) -> str:
    *others, last = terms
    return f"{', '.join(others)} and {last}" if others else last
