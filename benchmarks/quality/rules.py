"""The ways to select that are compared, each as a job's spec would have it: its target and its `select`."""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from benchmarks.quality.scored import Scored
from coreset.selection.select import select
from coreset.spec.selection import SelectSpec
from coreset.uids import read_uids

FRACTIONS = (0.1, 0.3, 0.5, 0.7)


@dataclass(frozen=True)
class Rule:
    """How to select, all but the size.

    Attributes:
        select: as in a spec.
        target: of the job whose scores are taken, `training` or `validation`; scores without a target have either.
    """

    select: dict[str, Any]
    target: str = "validation"


RANDOM, CLIP_SCORE, FULL = "random", "CLIP score", "full pool"
DEFAULT = "recipe"
BOTH = {"diffin": 1, "clip_score": 1}
WITHIN = {"within": {"clip_score": "cluster"}}
DISTINCT = {"distinct": "caption"}
OF_TARGET = {"quota": {"field": "cluster", "balance": "target"}}
SINGLE = {
    "Diff-In": "diffin",
    CLIP_SCORE: "clip_score",
    "TracIn": "tracin",
    "negCLIPLoss": "neg_clip_loss",
    "loss": "loss",
}
RULES: dict[str, Rule] = {
    RANDOM: Rule({"by": "random"}),
    FULL: Rule({"by": "random"}),
    CLIP_SCORE: Rule({"by": "clip_score"}),
    DEFAULT: Rule({"recipe": "target_balanced"}),
    "CLIP score alone in the recipe": Rule({"by": "clip_score", **DISTINCT, **OF_TARGET}),
    "Diff-In alone in the recipe": Rule({"by": "diffin", **DISTINCT, **OF_TARGET}),
    "chance alone in the recipe": Rule({"by": "random", **DISTINCT, **OF_TARGET}),
    "recipe without the target's shares": Rule({"by": BOTH, **WITHIN, **DISTINCT}),
    "recipe, copies not held back": Rule({"by": BOTH, **WITHIN, **OF_TARGET}),
    "recipe, V = training": Rule({"recipe": "target_balanced"}, "training"),
    "Diff-In + CLIP score": Rule({"by": BOTH, "within": {}}),
    **{name: Rule({"by": score}) for name, score in SINGLE.items() if name != CLIP_SCORE},
    "Diff-In, V = training": Rule({"by": "diffin"}, "training"),
    **{
        f"{one} in {other}": Rule({"by": {SINGLE[one]: 1, SINGLE[other]: 1}, "combine": "intersection"})
        for one, other in combinations(SINGLE, 2)
    },
}


def chosen(scored: Scored, rule: Rule, fraction: float) -> tuple[str, ...]:
    """Return the uids that the rule keeps."""
    spec = SelectSpec.model_validate(rule.select | {"fraction": fraction})
    selection = select(scored.storage, scored.plan, scored.manifest.job_id, spec)
    return tuple(read_uids(Path(selection.files["subset.npy"].uri)))
