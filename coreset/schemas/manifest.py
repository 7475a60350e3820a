"""The result of a job: summaries of shards, selections, and the manifest that lists every file."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, Self

from pydantic import Field

from coreset.schemas.horizon import Horizon
from coreset.schemas.part import Oddity
from coreset.schemas.plan import PlannedCheckpoint, PlannedModel, Sourced
from coreset.spec.base import FrozenModel
from coreset.spec.job import JobSpec
from coreset.spec.scores import Score
from coreset.spec.selection import SelectSpec

SUSPECTS = "suspects.parquet"
"""Name of the file that lists the suspects, in the selection of a job that cleans."""

MAX_NAMED_REPAIRS = 100
"""Largest number of repaired files that a manifest names."""


class File(FrozenModel):
    """A file of the result: URI, number of rows if it is a table, bytes, and sha256."""

    uri: str
    rows: int | None = None
    size: int
    sha256: str


class ShardSummary(FrozenModel):
    """Counts of one shard: the samples read are the scored ones and the bad ones.

    Attributes:
        expected: samples announced by the files beside the shard, if any.
        bad: number of bad samples by SampleStatus.
        damage: defect of the tar itself, for example `truncated`; the samples before it are scored.
        oddities: parts of the shard that were ignored or replaced, by OddityKind.
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


class Selection(FrozenModel):
    """A selection of samples: its spec, its size, and its files.

    Attributes:
        k: exact number of samples.
        rankable: number of samples that could have been selected.
        threshold: lowest selected value of `by`, in the spec's scale; ranks are scaled to 0..1, 1 the best.
        duplicates: number of rows that were left out for a row with the same uid and a better value.
        filtered: number of rows that the filters exclude.
        repeated: number of the k that repeat a sample: random sampling may draw one several times.
        warnings: measured weaknesses of ranking by these scores.
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


class SelectionPage(FrozenModel):
    """A page of a job's selections, newest first."""

    object: Literal["list"] = "list"
    selections: list[Selection]
    next_page_token: str | None = None


class Comparison(FrozenModel):
    """Agreement of a ranking with CLIP score, at the job's k.

    Attributes:
        overlap_clip_score: share of its top k that is in CLIP score's top k too.
        spearman_clip_score: correlation of the ranks over all samples; None if one ranking is constant.
    """

    overlap_clip_score: float
    spearman_clip_score: float | None


class Accuracy(FrozenModel):
    """Result of the accuracy gate: the fast path compared with float64, for one estimator, over all checkpoints.

    Attributes:
        spearman: None if all exact scores are equal in float32, so that they have no ranking.
        worst_relative_error: largest difference, divided by the largest exact score.
        samples: number of samples compared.
    """

    cosine: float
    spearman: float | None
    worst_relative_error: float
    samples: int


class Steps(FrozenModel):
    """The calibrated steps of an estimator's difference at one checkpoint, by direction, and its relative error."""

    steps: dict[str, float]
    error: float


class Repairs(FrozenModel):
    """Files of the plan and of the merges that finishing found damaged or gone, and that were made again.

    Attributes:
        count: of the files.
        files: what was wrong with each by its path in the storage, the first MAX_NAMED_REPAIRS.
    """

    count: int = 0
    files: dict[str, str] = Field(default_factory=dict[str, str])

    @classmethod
    def of(cls, repaired: Mapping[str, str]) -> Self:
        return cls(count=len(repaired), files=dict(list(repaired.items())[:MAX_NAMED_REPAIRS]))


class Environment(FrozenModel):
    coreset: str
    python: str
    torch: str
    open_clip: str
    device: str
    precision: str


class Manifest(FrozenModel):
    """The result of a job."""

    job_id: str
    plan_id: str
    spec: JobSpec
    environment: Environment
    checkpoints: list[PlannedCheckpoint]
    horizon: Horizon | None = Field(default=None, description="null without checkpoints, and in older results")
    model: PlannedModel
    parameters: list[str] | None = Field(default=None, description="names of the parameters that count; null for all")
    parameters_counted: int
    parameters_total: int
    n_samples: Sourced
    reference_uids: list[str]
    accuracy: dict[Score, Accuracy]
    steps: list[dict[Score, Steps]] = Field(
        default_factory=list[dict[Score, Steps]],
        description="by checkpoint and estimator, for estimators that take finite differences",
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
    repaired: Repairs = Field(default=Repairs(), description="stored files that were damaged and made again")
    warnings: list[str]
    comparisons: dict[str, Comparison]
    parts: list[File]
    selection: Selection
    report: File | None
    evaluation: File | None = Field(default=None, description="if the spec asked for one")
    seconds: dict[str, float]
    created_at: datetime
