"""The preflight of a job: its plan, without running it, and the memory and time that it would take."""

from typing import Literal

from pydantic import Field

from coreset.schemas.horizon import Horizon
from coreset.schemas.plan import PlannedCheckpoint, PlannedModel, Sourced
from coreset.schemas.training import TrainingFound
from coreset.spec.base import FrozenModel
from coreset.spec.scores import Score

Place = Literal["device", "host"]
DEVICE: Place = "device"
HOST: Place = "host"


class ShardsFound(FrozenModel):
    """The shards of a pool, all of which exist.

    Attributes:
        bytes: size of all shards.
        samples: number of samples that the files beside the shards announce.
        announced: number of shards by the source of their number of samples: `stats.json`, `sizes.json`, `parquet`,
            or `nothing`.
    """

    number: int
    bytes: int
    samples: int
    announced: dict[str, int]


class SampleFound(FrozenModel):
    """A sample as the shard has it.

    Attributes:
        members: size in bytes by extension; null for a member that scoring does not read.
        status: `ok`, or the reason why it would get no score.
        image_size: width and height as stored, null if no image can be opened.
    """

    key: str
    uid: str
    uid_source: str
    status: str
    members: dict[str, int | None]
    caption: str | None
    image_size: tuple[int, int] | None


class FirstShard(FrozenModel):
    """The first samples of the pool's first shard.

    Attributes:
        read: number of samples read for the preflight; `samples` are the first of them.
        duplicates: number of those whose uid an earlier one has.
    """

    uri: str
    read: int = 0
    duplicates: int = 0
    samples: list[SampleFound]


class MemoryItem(FrozenModel):
    """One use of memory, on the device that computes or on its host (the same memory on a CPU)."""

    what: str
    bytes: int
    place: Place = DEVICE


class MemoryStage(FrozenModel):
    """A stage of the job, whose items are in memory at the same time; stages follow one another."""

    name: str
    items: list[MemoryItem]

    def sum_of(self, *places: Place) -> int:
        """Return the bytes of the items in these places."""
        return sum(item.bytes for item in self.items if item.place in places)


class MemoryEstimate(FrozenModel):
    """Memory that a worker needs, if it is like the one that made the preflight.

    Attributes:
        device: the device that it computes on.
        device_bytes, host_bytes: need of the largest stage on the device and on its host; 0 for the host of a CPU.
        free_bytes: free memory of the device at the preflight.
        batch_size: samples per forward pass of scoring.
    """

    device: str
    device_bytes: int
    host_bytes: int
    free_bytes: int
    batch_size: int
    stages: list[MemoryStage]


class TimeEstimate(FrozenModel):
    """Time of a job on one worker, if it is like the one that made the preflight.

    Attributes:
        forwards: forward passes per sample, over all checkpoints.
        gflops: cost of one forward pass of a sample.
        samples_per_second: forward passes per second, timed at the preflight.
        prepare_seconds: once per plan, by one worker; 0 if the plan is prepared already.
        score_seconds: of the shards without a part, to be divided by the number of workers.
        assumption: the condition under which the figures are valid.
    """

    forwards: int
    gflops: float
    samples_per_second: float
    prepare_seconds: float
    score_seconds: float
    assumption: str


class Cheaper(FrozenModel):
    """A change of the spec that would save at least a fifth of the job's time; the scores become others.

    Attributes:
        change: what to change, in words.
        prepare_seconds, score_seconds: the job's time after it, as in TimeEstimate.
    """

    change: str
    prepare_seconds: float
    score_seconds: float


class Outputs(FrozenModel):
    """Paths that the job would write, with ID in the place of the job's id.

    Attributes:
        plan: the plan's folder.
        parts: folder of the scores.
        result: the manifest.
        report: the report.
        selection: folder of the selection: uids, scores, and new shards if the spec asks for them.
        prepared: whether the plan is prepared already.
        parts_existing: number of parts that exist already and would not be scored again.
    """

    plan: str
    parts: str
    result: str
    report: str
    selection: str
    prepared: bool
    parts_existing: int


class EvaluationFound(FrozenModel):
    """The evaluation that the job would make.

    Attributes:
        proxies: largest number of small models that would be trained; equal trials are trained once.
    """

    test_shards: ShardsFound
    model: PlannedModel
    proxies: int


class Preflight(FrozenModel):
    """The plan of a job, without the job.

    Attributes:
        plan_id: the job's plan, if shards and checkpoints do not change until then; UNTRAINED if the job trains its
            run first.
        parameters: names of the parameters that count; null for all.
        n_samples: N, the size of the pool, with its source.
    """

    object: Literal["preflight"] = "preflight"
    plan_id: str
    shards: ShardsFound
    target_shards: ShardsFound | None
    first_shard: FirstShard
    n_samples: Sourced
    checkpoints: list[PlannedCheckpoint]
    horizon: Horizon | None = Field(default=None, description="null if no score traces influence")
    model: PlannedModel
    clip_model: PlannedModel | None
    parameters: list[str] | None
    parameters_counted: int
    parameters_total: int
    scores: list[Score]
    warnings: list[str] = Field(default_factory=list)
    memory: MemoryEstimate
    time: TimeEstimate = Field(description="without the proxies of an evaluation")
    cheaper: list[Cheaper] = Field(
        default_factory=list[Cheaper],
        description="changes that would make a job of a minute or more cheaper, the cheapest job first; none if files "
        "of the plan exist already",
    )
    evaluation: EvaluationFound | None = Field(default=None, description="if the spec asks for one")
    training: TrainingFound | None = Field(
        default=None,
        description="if the job trains its run. Until that is trained, plan_id and the plan's paths are not known and "
        "say UNTRAINED, and checkpoints are as many as training keeps at most",
    )
    outputs: Outputs
