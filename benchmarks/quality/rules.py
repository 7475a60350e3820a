"""The ways to select that are compared: as a job's spec would have it, or in the recipe's shell by other values."""

from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

from benchmarks.quality.scored import Horizon, Scored, norm_sim, score_at
from benchmarks.quality.shell import Samples, Shell, Veto
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
        horizon: of the influence.
    """

    select: dict[str, Any]
    target: str = "validation"
    horizon: Horizon = "lowest"


RANDOM, CLIP_SCORE, FULL = "random", "CLIP score", "full pool"
DEFAULT = SHELL = "CLIP score in the shell"
WITH_DIFFIN = "Diff-In + CLIP score in the shell"
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
HORIZONS: tuple[Horizon, ...] = ("last", "before the lowest", "half of the fall", "four fifths of the fall")
EARLY: Horizon = "before the lowest"
RULES: dict[str, Rule | Shell] = {
    RANDOM: Rule({"by": "random"}),
    FULL: Rule({"by": "random"}),
    CLIP_SCORE: Rule({"by": "clip_score"}),
    SHELL: Rule({"recipe": "clip_score_target_balanced"}),
    WITH_DIFFIN: Rule({"recipe": "target_balanced"}),
    "Diff-In in the shell": Rule({"by": "diffin", **DISTINCT, **OF_TARGET}),
    "chance in the shell": Rule({"by": "random", **DISTINCT, **OF_TARGET}),
    f"{WITH_DIFFIN}, no target's shares": Rule({"by": BOTH, **WITHIN, **DISTINCT}),
    f"{WITH_DIFFIN}, copies not held back": Rule({"by": BOTH, **WITHIN, **OF_TARGET}),
    f"{WITH_DIFFIN}, V = training": Rule({"recipe": "target_balanced"}, "training"),
    "Diff-In + CLIP score": Rule({"by": BOTH, "within": {}}),
    **{name: Rule({"by": score}) for name, score in SINGLE.items() if name not in (CLIP_SCORE, "TracIn", "loss")},
    **{name: Rule({"by": SINGLE[name]}, horizon="last") for name in ("TracIn", "loss")},
    "Diff-In, V = training": Rule({"by": "diffin"}, "training"),
    **{
        f"{one} in {other}": Rule({"by": {SINGLE[one]: 1, SINGLE[other]: 1}, "combine": "intersection"}, horizon="last")
        for one, other in combinations(SINGLE, 2)
    },
    **{f"Diff-In, {horizon}": Rule({"by": "diffin"}, horizon=horizon) for horizon in HORIZONS},
    **{f"{WITH_DIFFIN}, {horizon}": Rule({"recipe": "target_balanced"}, horizon=horizon) for horizon in HORIZONS},
    **{f"both within clusters, {horizon}": Shell(BOTH, horizon) for horizon in ("lowest", EARLY)},
    **{
        f"shell, Diff-In's lowest {share:.0%} out, {horizon}": Shell({"clip_score": 1}, horizon, Veto("diffin", share))
        for horizon in ("lowest", EARLY)
        for share in (0.1, 0.2, 0.4)
    },
    **{
        f"shell, chance's lowest {share:.0%} out": Shell({"clip_score": 1}, veto=Veto("random", share))
        for share in (0.1, 0.2, 0.4)
    },
    "shell, NormSim": Shell({"norm_sim": 1}),
    "shell, NormSim + CLIP score": Shell({"norm_sim": 1, "clip_score": 1}),
    "shell, NormSim + CLIP score twice": Shell({"norm_sim": 1, "clip_score": 2}),
    "shell, NormSim's lowest 20% out": Shell({"clip_score": 1}, veto=Veto("norm_sim", 0.2)),
    "shell, loss": Shell({"loss": 1}, "last"),
    "shell, loss + CLIP score": Shell({"loss": 1, "clip_score": 1}, "last"),
    "shell, negCLIPLoss": Shell({"neg_clip_loss": 1}),
}


@dataclass(frozen=True)
class ScoredPool:
    """A pool's folder with its scores, made where they are asked for."""

    folder: Path
    seed: int

    def chosen(self, rule: Rule | Shell, fraction: float) -> tuple[str, ...]:
        """Return the uids that the rule keeps."""
        scored = _scored(self, rule.target, rule.horizon)
        if isinstance(rule, Shell):
            samples = _samples(self, rule.target, rule.horizon)
            return samples.chosen(rule, round(fraction * len(samples.uids)))
        return chosen(scored, rule, fraction)


@cache
def _scored(pool: ScoredPool, target: str, horizon: Horizon) -> Scored:
    return score_at(pool.folder, target, horizon, pool.seed)


@cache
def _samples(pool: ScoredPool, target: str, horizon: Horizon) -> Samples:
    return Samples.of(_scored(pool, target, horizon), {"norm_sim": norm_sim(pool.folder)})


def chosen(scored: Scored, rule: Rule, fraction: float) -> tuple[str, ...]:
    """Return the uids that the rule keeps."""
    spec = SelectSpec.model_validate(rule.select | {"fraction": fraction})
    selection = select(scored.storage, scored.plan, scored.manifest.job_id, spec)
    return tuple(read_uids(Path(selection.files["subset.npy"].uri)))
