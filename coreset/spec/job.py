"""The job spec: everything that a caller may ask for. Unknown fields are rejected."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import ConfigDict, Field, StringConstraints, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from coreset.redaction import SecretPath
from coreset.spec.base import FrozenModel
from coreset.spec.checkpoints import CheckpointsSpec
from coreset.spec.cleaning import CleanSpec
from coreset.spec.columns import PartColumns
from coreset.spec.evaluation import MAX_TRIALS, EvaluateSpec
from coreset.spec.kept import KINDS_KEPT, Kept, require_computed
from coreset.spec.model import ClipModelSpec, ModelSpec, ParametersSpec
from coreset.spec.pool import PoolSpec, ScoredPoolSpec
from coreset.spec.run_rules import require_run
from coreset.spec.scores import DEFAULT_SCORES, SCORES, Score
from coreset.spec.selection import SelectSpec
from coreset.spec.training import TrainSpec

Priority = Literal["high", "normal", "low"]
WebhookEvent = Literal["job.succeeded", "job.failed", "job.cancelled"]
LabelKey = Annotated[str, StringConstraints(pattern=r"^\w[\w./-]{0,62}$")]
LabelValue = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{0,200}$")]
WEBHOOK_EVENTS: tuple[WebhookEvent, ...] = get_args(WebhookEvent)
PRIORITIES: tuple[Priority, ...] = get_args(Priority)


class ReferenceSpec(FrozenModel):
    """The reference batch B, the contrastive partners of every sample's loss (docs/method.md).

    Attributes:
        size: number of samples drawn from the pool.
        seed: seed of the draw.
    """

    size: int = Field(default=256, ge=8, le=32_768)
    seed: int = 0


class ValidationTarget(FrozenModel):
    """Target V: the samples of a validation pool, disjoint from the pool that is scored.

    Attributes:
        pool: the validation pool.
        size: number of samples drawn from it; all of them if it has fewer.
    """

    pool: PoolSpec
    size: int = Field(default=512, ge=8, le=32_768)


class WebhookSpec(FrozenModel):
    """A webhook at the job's end, by Standard Webhooks (docs/api.md).

    Attributes:
        url: http or https, of a public host unless the operator allows others.
        events: the ends that are sent.
    """

    url: Annotated[
        str,
        StringConstraints(max_length=2048, pattern=r"^https?://[^\s/?#@]+([/?#]\S*)?$", strip_whitespace=True),
        SecretPath,
    ] = Field(examples=["https://example.org/hooks/coreset"])
    events: list[WebhookEvent] = Field(default=list(WEBHOOK_EVENTS), min_length=1)


def _all_but_suspects(known: dict[str, Any]) -> Any:
    """Return the selection of a job that has `clean` and no `select`."""
    clean = known["clean"]
    return clean and clean.rest


class JobSpec(FrozenModel):
    """A scoring job: a pool, a training run, the scores wanted, and a first selection."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "pool": {"shards": ["pool/{000000..000005}.tar"]},
                    "checkpoints": {"train": {}},
                    "select": {"fraction": 0.3},
                },
                {
                    "pool": {"shards": ["pool/{000000..000005}.tar"]},
                    "checkpoints": {"run": "logs/demo"},
                    "select": {"fraction": 0.3},
                },
                {
                    "pool": {"shards": ["pool/{000000..000005}.tar"]},
                    "checkpoints": {"run": "logs/demo"},
                    "clean": {"fraction": 0.1},
                },
                {
                    "pool": {"shards": ["pool/{000000..000005}.tar"]},
                    "clip_model": {"name": "ViT-B-32", "pretrained": "laion2b_s34b_b79k"},
                    "scores": ["clip_score", "neg_clip_loss", "random"],
                    "select": {"fraction": 0.3, "by": "clip_score"},
                },
            ]
        }
    )

    name: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$", strip_whitespace=True)] | None = Field(
        default=None,
        description="a name for people, shown in lists, on the page and in the report",
        examples=["CC3M, V"],
    )
    labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict[LabelKey, LabelValue],
        max_length=32,
        description="labels to find jobs by: `GET /v1/jobs?label=key:value`; like the name they change no score",
        examples=[{"project": "cc3m"}],
    )
    pool: ScoredPoolSpec
    checkpoints: CheckpointsSpec | None = Field(
        default=None,
        description="the training run; a job may leave it out if `clip_model` is given and `scores` names only "
        "clip_score, neg_clip_loss and random",
    )
    model: ModelSpec | None = None
    clip_model: ClipModelSpec | None = None
    parameters: Literal["all"] | ParametersSpec = "all"
    target: Literal["training"] | ValidationTarget = "training"
    reference: ReferenceSpec = ReferenceSpec()
    scores: list[Score] = Field(
        default=list(DEFAULT_SCORES),
        min_length=1,
        description="scores to compute; if it is left out, the default ones and those that `select` or `clean` reads, "
        "except self_influence, which must be named",
    )
    clean: CleanSpec | None = Field(
        default=None,
        description="find the suspects of the pool: they are written to suspects.parquet, the rest is selected",
    )
    select: SelectSpec = Field(
        default_factory=_all_but_suspects,
        validate_default=True,
        description="which samples to keep; leave it out with `clean`, which keeps all but the suspects",
    )
    clusters: int | None = Field(
        default=None,
        ge=0,
        le=1024,
        description="clusters of similar images, for quotas; 0 for none. They need the pass that computes clip_score; "
        "with it the default is 32, or an eighth of the reference batch if that is fewer",
    )
    seed: int = Field(default=0, description="seed of the random score")
    evaluate: EvaluateSpec | None = Field(
        default=None,
        description="after the selection, train small models on it and on its rivals, and measure them on held-out "
        "samples; not part of the plan, so a job posted again with it reuses all scores (docs/evaluation.md)",
    )
    max_failed_shards: int = Field(
        default=0, ge=0, description="number of shards that may fail without failing the job"
    )
    thumbnails: bool = Field(
        default=True, description="store a small JPEG of each sample, about 1.5 kB, for the page and the report"
    )
    keep: list[Kept] = Field(
        default_factory=list[Kept],
        max_length=len(KINDS_KEPT),
        exclude_if=lambda kinds: not kinds,
        description="files to write beside the scores: `embeddings`, of image and text in float16, and `losses`, with "
        "the cosine, at each checkpoint; from passes that the job makes anyway (docs/pipelines.md)",
        examples=[["embeddings"]],
    )
    priority: Priority = Field(
        default="normal", description="jobs of one priority share the workers; lower ones wait for higher ones"
    )
    webhook: WebhookSpec | None = Field(default=None, description="send the job's end to a URL")
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=60,  # callers that poll should see the end
        le=10 * 365 * 24 * 3600,
        description="delete the job and its files this long after its end; null keeps them",
    )

    @field_validator("scores")
    @classmethod
    def _unique_in_order(cls, value: list[Score]) -> list[Score]:
        return [score for score in SCORES if score in value]

    @field_validator("keep")
    @classmethod
    def _kinds_once(cls, value: list[Kept]) -> list[Kept]:
        return [kind for kind in KINDS_KEPT if kind in value]

    @field_validator("select", mode="before")
    @classmethod
    def _select_or_clean(cls, value: Any) -> Any:
        if value is None:
            raise PydanticCustomError("missing", "Field required: give `select`, or `clean`")
        return value

    @field_validator("select")
    @classmethod
    def _by_computed_scores(cls, value: SelectSpec, info: ValidationInfo) -> SelectSpec:
        return value.with_scores(info.data.get("scores", ()))

    @model_validator(mode="after")
    def _scores_that_are_read(self) -> Self:
        if "scores" not in self.model_fields_set:
            read = set(self.select.required_scores) - {Score.SELF_INFLUENCE}
            read |= {Score.LOSS} if "losses" in self.keep else set[Score]()
            scores = [score for score in SCORES if score in read or score in DEFAULT_SCORES]
            object.__setattr__(self, "scores", scores)  # the model is frozen, but not yet returned
        return self

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.clean and self.select != self.clean.rest:
            raise ValueError("`clean` selects all but the suspects by itself; give one of `clean` and `select`")
        return self

    @model_validator(mode="after")
    def _run_where_it_is_needed(self) -> Self:
        require_run(self.checkpoints, self.scores, self.model, self.parameters, self.clip_model)
        return self

    @property
    def train(self) -> TrainSpec | None:
        """The run that the job trains itself, if it does."""
        return self.checkpoints.train if self.checkpoints else None

    @model_validator(mode="after")
    def _select_by_computed(self) -> Self:
        missing = [score.value for score in self.select.required_scores if score not in self.scores]
        if missing:
            named = "clean" if self.clean else "select"
            verb = "ranks by default by" if self.clean and "by" not in self.clean.model_fields_set else "names"
            raise ValueError(
                f"{named} {verb} scores that this job does not compute: {', '.join(missing)}; add them to `scores`, or "
                f"give `{named}.by` with one of {', '.join(self.scores)}"
            )
        if missing_columns := self._columns.describe_missing(self.select.filters, self.select.groups):
            raise ValueError(f"select: {missing_columns}")
        return self

    @model_validator(mode="after")
    def _evaluate_by_computed(self) -> Self:
        if self.evaluate is None:
            return self
        for name, rule in self.evaluate.rules(self.select.rule, self.scores).items():
            if missing := [score.value for score in rule.required_scores if score not in self.scores]:
                raise ValueError(
                    f"evaluate: {name} needs scores that this job does not compute: {', '.join(missing)}; "
                    "add them to `scores`"
                )
            if missing_columns := self._columns.describe_missing(rule.filters, rule.groups):
                raise ValueError(f"evaluate: {name}: {missing_columns}")
        trials = self.evaluate.number_of_trials(self.select.rule, self.scores)
        if trials > MAX_TRIALS:
            raise ValueError(
                f"evaluate: {trials} proxies would be trained; expected at most {MAX_TRIALS}: give fewer selections, "
                "fractions or seeds"
            )
        return self

    @property
    def _columns(self) -> PartColumns:
        """The columns that the parts will have."""
        clusters = self.embeds if self.clusters is None else self.clusters > 0
        return PartColumns(tuple(self.scores), tuple(self.pool.metadata), clusters)

    @property
    def embeds(self) -> bool:
        """Whether a pass computes the embeddings of every sample, which clusters are made of."""
        return bool({Score.CLIP_SCORE, Score.NEG_CLIP_LOSS} & set(self.scores))

    @model_validator(mode="after")
    def _keep_what_is_computed(self) -> Self:
        require_computed(self.keep, self.scores, self.embeds)
        return self

    @model_validator(mode="after")
    def _clusters_of_embeddings(self) -> Self:
        if self.clusters and not self.embeds:
            raise ValueError("`clusters` needs the embeddings of clip_score: add clip_score to `scores`")
        if self.clusters and self.clusters > self.reference.size:
            raise ValueError(
                f"`clusters` is {self.clusters}; expected at most the reference batch's size, {self.reference.size}"
            )
        return self
