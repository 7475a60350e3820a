"""What a job leaves behind: a summary a shard, selections, and the manifest that names every file."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from coreset.schemas.part import Oddity
from coreset.schemas.plan import PlannedCheckpoint, PlannedModel, Sourced
from coreset.spec.job import JobSpec, SelectSpec, Strict
from coreset.spec.scores import Score

SUSPECTS = "suspects.parquet"
"""The file of a clean job's selection that lists what it leaves out."""


class File(Strict):
    """A file of the result: URI, rows if it is a table, bytes, and its sha256."""

    uri: str
    rows: int | None = None
    size: int
    sha256: str


class ShardSummary(Strict):
    """What became of one shard: the samples read are the scored ones and the bad ones.

    Attributes:
        expected: samples announced by the files beside the shard, if any.
        bad: number of bad samples by SampleStatus.
        damage: what is wrong with the tar itself, for example `truncated`; the samples before it are scored.
        oddities: what was left aside or replaced, by OddityKind.
    """

    shard: int
    uri: str
    part: File
    read: int
    scored: int
    bad: dict[str, int] = Field(default_factory=dict)
    expected: int | None = None
    damage: str | None = None
    oddities: dict[str, Oddity] = Field(default_factory=dict[str, Oddity])
    seconds: float
    device: str


class Selection(Strict):
    """A coreset: the spec that cut it, its size, and its files.

    Attributes:
        k: number of samples, exactly.
        rankable: samples that could have been chosen.
        threshold: the lowest value of `by` inside, in the spec's scale; ranks are scaled to 0..1, 1 the best.
        duplicates: rows left out because their uid had come with a better value.
        filtered: rows that the filters leave out.
        repeated: of the k, those that are there once already: a draw may repeat samples.
        warnings: what is measured against ranking by these scores.
    """

    id: str
    object: Literal["selection"] = "selection"
    job_id: str
    spec: SelectSpec
    k: int
    rankable: int
    duplicates: int
    filtered: int = 0
    repeated: int = 0
    threshold: float
    created_at: datetime
    files: dict[str, File]
    warnings: list[str] = Field(default_factory=list)


class SelectionPage(Strict):
    """A page of a job's selections, newest first."""

    object: Literal["list"] = "list"
    selections: list[Selection]
    next_page_token: str | None = None


class Comparison(Strict):
    """What a ranking keeps at the job's k, beside CLIP score.

    Attributes:
        overlap_clip_score: share of its top k that is in CLIP score's top k.
        spearman_clip_score: correlation of the ranks over all samples; None if one ranking is constant.
    """

    overlap_clip_score: float
    spearman_clip_score: float | None


class Accuracy(Strict):
    """The accuracy gate: the fast path against float64, for one estimator, over all checkpoints.

    Attributes:
        spearman: None where all exact scores are the same number in float32: they have no ranking.
        worst_relative_error: largest difference, relative to the largest exact score.
        samples: those compared.
    """

    cosine: float
    spearman: float | None
    worst_relative_error: float
    samples: int


class Steps(Strict):
    """The calibrated steps of an estimator's difference at one checkpoint, by direction, and its relative error."""

    steps: dict[str, float]
    error: float


class Environment(Strict):
    coreset: str
    python: str
    torch: str
    open_clip: str
    device: str
    precision: str


class Manifest(Strict):
    """The result of a job."""

    job_id: str
    plan_id: str
    spec: JobSpec
    environment: Environment
    checkpoints: list[PlannedCheckpoint]
    model: PlannedModel
    parameters: list[str] | None = Field(default=None, description="names of those that are counted; null is all")
    parameters_counted: int
    parameters_total: int
    n_samples: Sourced
    reference_uids: list[str]
    accuracy: dict[Score, Accuracy]
    steps: list[dict[Score, Steps]] = Field(
        default_factory=list[dict[Score, Steps]], description="by checkpoint and estimator, where there is a difference"
    )
    read: int
    scored: int
    duplicates: int = Field(default=0, description="scored samples whose uid an earlier sample of the pool has")
    bad: dict[str, int]
    oddities: dict[str, Oddity] = Field(
        default_factory=dict[str, Oddity], description="what was left aside or replaced, with an example"
    )
    expected: int | None
    failed_shards: list[str]
    damaged_shards: dict[str, str]
    warnings: list[str]
    comparisons: dict[str, Comparison]
    parts: list[File]
    selection: Selection
    report: File | None
    evaluation: File | None = Field(default=None, description="where the spec asked for one")
    seconds: dict[str, float]
    created_at: datetime
