"""A selection's rule in words."""

from coreset.spec.scores import SCORES
from coreset.spec.selection import Quota, SelectSpec

COMBINES = {"mix": "", "intersection": "best by all of ", "union": "best by any of "}
SCALES = {"rank": "", "zscore": ", as standardised scores", "raw": ", as raw scores"}
BALANCES = {
    "proportional": "the same share of each {field}",
    "equal": "the same number from each {field}",
    "target": "each {field} with its share in the target",
}


def describe_rule(spec: SelectSpec) -> str:
    """Return the rule of a selection in words."""
    equal = len(set(spec.by.values())) == 1
    terms = [
        ("" if equal and weight > 0 else f"{weight:g} times ")
        + SCORES[score].label
        + (f" within its {_noun(spec.rank_groups[score])}" if score in spec.rank_groups else "")
        for score, weight in spec.by.items()
    ]
    words = [COMBINES[spec.combine] + " + ".join(terms) + SCALES[spec.scale]]
    if spec.threshold is not None:
        words.append(f"all samples with a value of at least {spec.threshold:g}")
    if spec.quota:
        words.append(_quota_in_words(spec.quota))
    if spec.distinct:
        words.append(f"a second sample with the same {_noun(spec.distinct)} only after all others")
    if spec.filters:
        words.append(f"only samples that pass the filters on {', '.join(spec.filters)}")
    if spec.sampling:
        words.append(f"drawn at random at temperature {spec.sampling.temperature:g}")
    return "; ".join(words)


def _quota_in_words(quota: Quota) -> str:
    field = _noun(quota.field)
    if quota.balance:
        return BALANCES[quota.balance].format(field=field)
    if quota.max is not None:
        return f"at most {quota.max:,} samples per {field}"
    if quota.max_share is not None:
        return f"at most {quota.max_share:.3g} of the selection per {field}"
    return f"fixed shares for {len(quota.shares or {})} values of {field}"


def _noun(column: str) -> str:
    return column.removeprefix("metadata_")
