"""The outcome of a job in words, for its page: samples kept, by which rule, what was left out, and the gain."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from coreset.errors import DamagedFile, NotFound
from coreset.schemas.evaluation import EvaluatedCut, Evaluation
from coreset.schemas.intervals import Interval
from coreset.schemas.job import Job, JobStatus
from coreset.schemas.manifest import Manifest, Selection
from coreset.spec.evaluation import SELECTED
from coreset.spec.rule_words import describe_rule
from coreset.spec.scores import SCORES
from coreset.storage.layout import JobFolder, load_manifest
from coreset.storage.storage import Storage

DOWNLOADS = ("subset.npy", "subset.parquet", "suspects.parquet")
"""Files of a selection that the API serves, besides selection.json."""

MEASURES = {"accuracy": "zero-shot accuracy", "recall": "mean recall"}


@dataclass(frozen=True)
class Outcome:
    """The result of a job that has succeeded.

    Attributes:
        selection: the job's own selection.
        read: number of samples read from the pool.
        left_out: by reason, the number of samples that are not in the selection.
        bad: by kind of defect, the number of bad samples.
        rule: the rule of the selection.
        gains: sentences on the measured quality; empty without an evaluation.
    """

    selection: Selection
    read: int
    cleans: bool
    left_out: dict[str, int]
    bad: dict[str, int]
    rule: str
    gains: list[str]

    @property
    def kept(self) -> int:
        """Number of different samples in the selection."""
        return self.selection.k - self.selection.repeated


def outcome_of(storage: Storage, job: Job) -> Outcome | None:
    """Return the outcome of a job; None unless it has succeeded and this version can read its manifest."""
    if job.status is not JobStatus.SUCCEEDED:
        return None
    try:
        manifest = load_manifest(storage, job.id)
    except (NotFound, DamagedFile):
        return None
    return Outcome(
        selection=manifest.selection,
        read=manifest.read,
        cleans=manifest.spec.clean is not None,
        left_out=_left_out(manifest),
        bad=manifest.bad,
        rule=describe_rule(manifest.selection.spec),
        gains=_gains(storage, manifest),
    )


def _left_out(manifest: Manifest) -> dict[str, int]:
    selection = manifest.selection
    counts = {
        "bad, without scores": sum(manifest.bad.values()),
        "duplicates of a sample with the same uid": selection.duplicates,
        "excluded by the filters": selection.filtered,
        "suspects" if manifest.spec.clean else "not chosen by the rule": _unchosen(selection),
    }
    return {reason: count for reason, count in counts.items() if count}


def _unchosen(selection: Selection) -> int:
    return max(0, selection.rankable - (selection.k - selection.repeated))


def _gains(storage: Storage, manifest: Manifest) -> list[str]:
    if manifest.evaluation is None:
        return []
    try:
        evaluation = Evaluation.model_validate_json(storage.read(JobFolder(manifest.job_id).evaluation))
    except (NotFound, DamagedFile, ValidationError):
        return []
    own = [cut for cut in evaluation.cuts if cut.selection == SELECTED and cut.points]
    if not own or evaluation.measured is None:
        return ["The evaluation below compares other rules; it did not train on this selection."]
    wanted = manifest.selection.k / max(manifest.selection.rankable, 1)
    cut = min(own, key=lambda each: abs(each.fraction - wanted))
    return [_gain(cut, MEASURES[evaluation.measured])]


def _gain(cut: EvaluatedCut, measure: str) -> str:
    mean = cut.points.mean if cut.points else 0.0
    against = ", ".join(f"{_signed(other)} against {_label(name)}" for name, other in cut.against.items())
    result = f"Small models trained on {100 * cut.fraction:.3g} % of the pool by this rule reach {mean:.1f} % {measure}"
    return f"{result}: {against}." if against else f"{result}."


def _signed(difference: Interval) -> str:
    text = f"{difference.mean:+.1f} points"
    if difference.low is None or difference.high is None:
        return text
    return f"{text} ({difference.low:+.1f} to {difference.high:+.1f})"


def _label(name: str) -> str:
    labels: Mapping[str, str] = {score.value: info.label for score, info in SCORES.items()}
    return "a random selection" if name == "random" else labels.get(name, name)


def downloads(job_id: str, selection: Selection) -> dict[str, str]:
    """Return the addresses of a selection's files by name."""
    base = f"/v1/jobs/{job_id}/selections/{selection.id}/files"
    names = [*(name for name in DOWNLOADS if name in selection.files), "selection.json"]
    return {name: f"{base}/{name}" for name in names}
