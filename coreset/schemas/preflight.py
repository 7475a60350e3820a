"""What a preflight tells of a job that was not started: what it found, and what the job would take."""

from typing import Literal

from pydantic import Field

from coreset.schemas.plan import PlannedCheckpoint, PlannedModel, Sourced
from coreset.spec.job import Strict
from coreset.spec.scores import Score

Place = Literal["device", "host"]
DEVICE: Place = "device"
HOST: Place = "host"


class ShardsFound(Strict):
    """The shards of a pool, all of which are there.

    Attributes:
        bytes: of all shards.
        samples: that the files beside the shards announce.
        announced: number of shards by what tells their number of samples: `stats.json`, `sizes.json`, `parquet`,
            or `nothing`.
    """

    number: int
    bytes: int
    samples: int
    announced: dict[str, int]


class SampleFound(Strict):
    """A sample as it lies in a shard.

    Attributes:
        members: size in bytes by extension; null for a member that scoring does not read.
        status: `ok`, or why it would get no score.
        image_size: width and height as stored, null where no image can be opened.
    """

    key: str
    uid: str
    uid_source: str
    status: str
    members: dict[str, int | None]
    caption: str | None
    image_size: tuple[int, int] | None


class FirstShard(Strict):
    """The first samples of the pool's first shard.

    Attributes:
        read: samples that were read for the check; `samples` are the first of them.
        duplicates: of those read, the samples whose uid an earlier one has.
    """

    uri: str
    read: int = 0
    duplicates: int = 0
    samples: list[SampleFound]


class MemoryItem(Strict):
    """Something that takes memory, on the device that computes or on the machine around it (the same on a CPU)."""

    what: str
    bytes: int
    place: Place = DEVICE


class MemoryStage(Strict):
    """A stage of the job whose items are in memory at the same time; stages come one after another."""

    name: str
    items: list[MemoryItem]

    def sum_of(self, *places: Place) -> int:
        """Return the bytes of the items in these places."""
        return sum(item.bytes for item in self.items if item.place in places)


class MemoryEstimate(Strict):
    """What a worker like the one that made the check needs.

    Attributes:
        device: what it computes on.
        device_bytes, host_bytes: the largest stage's, on the device and beside it; 0 beside a CPU.
        free_bytes: on the device, at the check.
        batch_size: samples in a forward pass that scores.
    """

    device: str
    device_bytes: int
    host_bytes: int
    free_bytes: int
    batch_size: int
    stages: list[MemoryStage]


class TimeEstimate(Strict):
    """Seconds of one worker like the one that made the check.

    Attributes:
        forwards: forward passes a sample, over all checkpoints.
        gflops: of one forward pass of a sample.
        samples_per_second: one forward pass each, timed at the check.
        prepare_seconds: once a plan, by one worker.
        score_seconds: divided by the number of workers.
        assumption: what the figures rest on.
    """

    forwards: int
    gflops: float
    samples_per_second: float
    prepare_seconds: float
    score_seconds: float
    assumption: str


class Outputs(Strict):
    """Where the job would write.

    Attributes:
        plan: the plan's folder.
        parts: folder of the scores.
        result: the manifest, ID the job's.
        report: the report, ID the job's.
        selection: folder of the subset that the spec asks for: its uids, scores, and new shards if they are wanted.
        prepared: the plan is prepared already.
        parts_existing: parts that are there already and would not be scored again.
    """

    plan: str
    parts: str
    result: str
    report: str
    selection: str
    prepared: bool
    parts_existing: int


class EvaluationFound(Strict):
    """What the job would measure its selections by.

    Attributes:
        proxies: small models that would be trained, at most: equal questions are asked once.
    """

    test_shards: ShardsFound
    model: PlannedModel
    proxies: int


class Preflight(Strict):
    """The plan of a job, without the job.

    Attributes:
        plan_id: the job's own, if nothing changes until then.
        parameters: names of those that are counted; null is all.
        n_samples: N, with its source.
    """

    object: Literal["preflight"] = "preflight"
    plan_id: str
    shards: ShardsFound
    target_shards: ShardsFound | None
    first_shard: FirstShard
    n_samples: Sourced
    checkpoints: list[PlannedCheckpoint]
    model: PlannedModel
    clip_model: PlannedModel | None
    parameters: list[str] | None
    parameters_counted: int
    parameters_total: int
    scores: list[Score]
    warnings: list[str] = Field(default_factory=list)
    memory: MemoryEstimate
    time: TimeEstimate = Field(description="without the proxies of an evaluation")
    evaluation: EvaluationFound | None = Field(default=None, description="where the spec asks for one")
    outputs: Outputs
