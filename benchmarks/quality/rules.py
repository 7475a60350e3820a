"""The ways to select that are compared, each as a job's spec would have it: its target and its `select`."""

from dataclasses import dataclass, field
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
RULES: dict[str, Rule] = {
    RANDOM: Rule({"by": "random"}),
    FULL: Rule({"by": "random"}),
    CLIP_SCORE: Rule({"by": "clip_score"}),
    "negCLIPLoss": Rule({"by": "neg_clip_loss"}),
    "loss": Rule({"by": "loss"}),
    "TracIn": Rule({"by": "tracin"}),
    "Diff-In": Rule({"by": "diffin"}),
    "Diff-In, V = training": Rule({"by": "diffin"}, "training"),
}


def chosen(scored: Scored, rule: Rule, fraction: float) -> tuple[str, ...]:
    """Return the uids that the rule keeps."""
    spec = SelectSpec.model_validate(rule.select | {"fraction": fraction})
    selection = select(scored.storage, scored.plan, scored.manifest.job_id, spec)
    return tuple(read_uids(Path(selection.files["subset.npy"].uri)))
