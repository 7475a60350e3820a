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
        target: of the job whose scores are taken, `training` or `validation`.
        select: as in a spec.
    """

    target: str = "training"
    select: dict[str, Any] = field(default_factory=dict[str, Any])


RANDOM, CLIP_SCORE, FULL = "random", "CLIP score", "full pool"
RULES: dict[str, Rule] = {
    RANDOM: Rule(select={"by": "random"}),
    CLIP_SCORE: Rule(select={"by": "clip_score"}),
    "negCLIPLoss": Rule(select={"by": "neg_clip_loss"}),
    "loss": Rule(select={"by": "loss"}),
    "TracIn": Rule(select={"by": "tracin"}),
    "Diff-In": Rule(select={"by": "diffin"}),
    "Diff-In, V = validation": Rule("validation", {"by": "diffin"}),
    "Diff-In eq. 9": Rule(select={"by": "diffin_eq9"}),
}


def chosen(scored: Scored, rule: Rule, fraction: float) -> tuple[str, ...]:
    """Return the uids that the rule keeps."""
    spec = SelectSpec.model_validate(rule.select | {"fraction": fraction})
    selection = select(scored.storage, scored.plan, scored.manifest.job_id, spec)
    return tuple(read_uids(Path(selection.files["subset.npy"].uri)))
