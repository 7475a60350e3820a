"""The ways to select that are compared, each as a job's spec would have it: its target and its `select`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality.scored import Scored
from coreset.select import select
from coreset.spec import SelectSpec
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
DISTINCT = {"field": "caption", "balance": "distinct"}
BOTH = {"diffin": 1, "clip_score": 1}
RULES: dict[str, Rule] = {
    RANDOM: Rule({"by": "random"}),
    FULL: Rule({"by": "random"}),
    CLIP_SCORE: Rule({"by": "clip_score"}),
    DEFAULT: Rule({"by": BOTH, "within": {"clip_score": "cluster"}, "quota": DISTINCT}),
    "recipe, copies not held back": Rule({"by": BOTH, "within": {"clip_score": "cluster"}}),
    "recipe, V = training": Rule({"by": BOTH, "within": {"clip_score": "cluster"}, "quota": DISTINCT}, "training"),
    "recipe with loss for CLIP score": Rule(
        {"by": {"diffin": 1, "loss": 1}, "within": {"loss": "cluster"}, "quota": DISTINCT}
    ),
    "CLIP score within clusters, copies held back": Rule(
        {"by": "clip_score", "within": {"clip_score": "cluster"}, "quota": DISTINCT}
    ),
    "Diff-In + CLIP score": Rule({"by": BOTH}),
    "Diff-In in CLIP score": Rule({"by": BOTH, "combine": "intersection"}),
    "Diff-In": Rule({"by": "diffin"}),
    "Diff-In, V = training": Rule({"by": "diffin"}, "training"),
    "TracIn": Rule({"by": "tracin"}),
    "loss": Rule({"by": "loss"}),
    "negCLIPLoss": Rule({"by": "neg_clip_loss"}),
}


def chosen(scored: Scored, rule: Rule, fraction: float) -> tuple[str, ...]:
    """Return the uids that the rule keeps."""
    spec = SelectSpec.model_validate(rule.select | {"fraction": fraction})
    selection = select(scored.storage, scored.plan, scored.manifest.job_id, spec)
    return tuple(read_uids(Path(selection.files["subset.npy"].uri)))
