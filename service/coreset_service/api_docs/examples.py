"""Examples of requests and answers, built from the models so that they stay valid."""

from datetime import UTC, datetime
from typing import Any

from coreset.browsing.evaluated_cuts import evaluate_cuts
from coreset.schemas.cut_diff import CutDiff
from coreset.schemas.diagnosis import Diagnosis, Finding
from coreset.schemas.evaluation import Cut, Evaluation, Quality, TrialOutcome
from coreset.schemas.events import Ended, JobEvent, ShardFailed, StatusChanged
from coreset.schemas.group_counts import GroupCount, GroupCounts
from coreset.schemas.job import Job, JobPage, JobStatus, Progress, SampleCounts, ShardCounts
from coreset.schemas.manifest import Accuracy, Comparison, Environment, File, Manifest, Selection, SelectionPage
from coreset.schemas.plan import PlannedCheckpoint, PlannedModel, Sourced
from coreset.schemas.preflight import (
    HOST,
    FirstShard,
    MemoryEstimate,
    MemoryItem,
    MemoryStage,
    Outputs,
    Preflight,
    SampleFound,
    ShardsFound,
    TimeEstimate,
)
from coreset.schemas.sample import SamplePage, SampleView
from coreset.schemas.summary import Axis, Density, Histogram, Ranking, Sheet, Summary
from coreset.spec.job import JobSpec
from coreset.spec.scores import SCORES, Score
from coreset.spec.selection import Rule, SelectSpec
from coreset_service.webhooks.message import JobEnded, WebhookBody

_SPEC: dict[str, Any] = {
    "pool": {"shards": ["s3://pool/{000000..000099}.tar"]},
    "checkpoints": {"run": "s3://runs/vit-b-32"},
    "select": {"fraction": 0.3},
}
_JOB_ID = "j019abc000005f3a2b1c0d9"
_WHEN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
_FILE = File(uri=f"s3://coresets/jobs/{_JOB_ID}/subset.npy", rows=1000, size=16_128, sha256="0" * 64)

_job = Job(
    id=_JOB_ID,
    status=JobStatus.SCORING,
    spec=JobSpec.model_validate(_SPEC),
    plan_id="5f3a2b1c0d9e8f7a5f3a2b1c0d9e8f7a",
    created_at=_WHEN,
    started_at=_WHEN,
    progress=Progress(
        stage="scoring shards",
        fraction=0.51,
        shards=ShardCounts(total=100, done=44, running=2),
        samples=SampleCounts(read=440_000, scored=439_120, bad={"bad_image": 880}),
        samples_per_second=2150.0,
        eta_seconds=252.0,
        devices=["NVIDIA H200"],
    ),
    links={
        "self": f"/v1/jobs/{_JOB_ID}",
        "events": f"/v1/jobs/{_JOB_ID}/events",
        "cancel": f"/v1/jobs/{_JOB_ID}/cancel",
    },
)
_selection = Selection(
    id="s5f3a2b1c",
    job_id=_JOB_ID,
    spec=SelectSpec(k=1000),
    k=1000,
    rankable=997_800,
    duplicates=12,
    threshold=0.93,
    created_at=_WHEN,
    files={"subset.npy": _FILE},
)

_SHA = "0f1e2d3c" * 8


def _sourced(value: float, source: str) -> Sourced:
    return Sourced(value=value, source=source)


_preflight = Preflight(
    plan_id="5f3a2b1c0d9e8f7a5f3a2b1c0d9e8f7a",
    shards=ShardsFound(number=100, bytes=52_428_800_000, samples=1_000_000, announced={"sizes.json": 100}),
    target_shards=None,
    first_shard=FirstShard(
        uri="s3://pool/000000.tar",
        samples=[
            SampleFound(
                key="000000000",
                uid="1f0c5a2b7d3e4f608192a3b4c5d6e7f8",
                uid_source="json",
                status="ok",
                members={"jpg": 48_211, "json": 412, "txt": 37},
                caption="a red bicycle in front of a white wall",
                image_size=(640, 480),
            )
        ],
    ),
    n_samples=_sourced(1_000_000, "files beside the shards"),
    checkpoints=[
        PlannedCheckpoint(
            index=0,
            uri="s3://runs/vit-b-32/checkpoints/epoch_1.pt",
            size=1_815_000_000,
            sha256=_SHA,
            epoch=1,
            step=_sourced(7812, "global_step"),
            lr=_sourced(4.9e-4, "optimizer state"),
            lr_sum=_sourced(3.2, "params.txt"),
            optimizer="adamw",
        )
    ],
    model=PlannedModel(name="ViT-B-32", config={"embed_dim": 512}, source="params.txt"),
    clip_model=None,
    parameters=None,
    parameters_counted=151_277_313,
    parameters_total=151_277_313,
    scores=[Score.DIFFIN, Score.CLIP_SCORE],
    warnings=["there is one checkpoint only: influence over training wants a few, say five"],
    memory=MemoryEstimate(
        device="NVIDIA H200",
        device_bytes=18_200_000_000,
        host_bytes=4_100_000_000,
        free_bytes=150_000_000_000,
        batch_size=1024,
        stages=[
            MemoryStage(
                name="scoring",
                items=[
                    MemoryItem(what="the model", bytes=605_000_000),
                    MemoryItem(what="a block of decoded samples", bytes=2_147_483_648, place=HOST),
                ],
            )
        ],
    ),
    time=TimeEstimate(
        forwards=3,
        gflops=14.778,
        samples_per_second=2400.0,
        prepare_seconds=130.0,
        score_seconds=1250.0,
        assumption="one worker on a device like this one",
    ),
    outputs=Outputs(
        plan="s3://coresets/plans/5f3a2b1c0d9e8f7a5f3a2b1c0d9e8f7a",
        parts="s3://coresets/plans/5f3a2b1c0d9e8f7a5f3a2b1c0d9e8f7a/parts",
        result="s3://coresets/jobs/ID/manifest.json",
        report="s3://coresets/jobs/ID/report.html",
        selection="s3://coresets/jobs/ID/selections/4bff1e42cb9e2fba",
        prepared=False,
        parts_existing=0,
    ),
)

_MILESTONES: list[JobEvent] = [
    StatusChanged(at=_WHEN, status=JobStatus.SCORING),
    ShardFailed(at=_WHEN, shard=7, uri="s3://pool/000007.tar", message="s3://pool/000007.tar is not a tar file"),
    Ended(at=_WHEN, status=JobStatus.SUCCEEDED),
]

_sample = SampleView(
    uid="5f3a2b1c0d9e8f7a5f3a2b1c0d9e8f7a",
    shard="000007.tar",
    key="000007042",
    row=42,
    uri="s3://pool/000007.tar",
    caption="a dog on a beach",
    scores={Score.DIFFIN: 0.0021, Score.CLIP_SCORE: 0.31},
    by_checkpoint={Score.DIFFIN: [0.0009, 0.0012]},
    kept=True,
    thumbnail="data:image/jpeg;base64,/9j/4AAQ",
)
_manifest = Manifest(
    job_id=_JOB_ID,
    plan_id=_preflight.plan_id,
    spec=_job.spec,
    environment=Environment(
        coreset="0.1.0", python="3.11.7", torch="2.15.0", open_clip="3.3.0", device="NVIDIA H200", precision="float32"
    ),
    checkpoints=_preflight.checkpoints,
    model=_preflight.model,
    parameters_counted=_preflight.parameters_counted,
    parameters_total=_preflight.parameters_total,
    n_samples=_preflight.n_samples,
    reference_uids=["1f0c5a2b7d3e4f608192a3b4c5d6e7f8"],
    accuracy={Score.DIFFIN: Accuracy(cosine=0.99999, spearman=0.9999, worst_relative_error=2e-4, samples=32)},
    read=1_000_000,
    scored=998_000,
    bad={"bad_image": 2000},
    expected=1_000_000,
    failed_shards=[],
    damaged_shards={},
    warnings=[],
    comparisons={"clip_score": Comparison(overlap_clip_score=1.0, spearman_clip_score=1.0)},
    parts=[File(uri=f"{_preflight.outputs.parts}/000000.parquet", rows=10_000, size=1_204_112, sha256="0" * 64)],
    selection=_selection,
    report=File(uri=f"s3://coresets/jobs/{_JOB_ID}/report.html", size=1_830_220, sha256="0" * 64),
    seconds={"finish": 12.4},
    created_at=_WHEN,
)
_cuts = [Cut(selection=name, fraction=0.3, k=299_400) for name in ("diffin", "clip_score")]
_evaluation = Evaluation(
    job_id=_JOB_ID,
    plan_id=_preflight.plan_id,
    measured="accuracy",
    rules={cut.selection: Rule.model_validate({"by": cut.selection}) for cut in _cuts},
    cuts=evaluate_cuts(
        _cuts,
        {
            (cut, seed): TrialOutcome(
                quality=Quality(
                    accuracy=0.41 + 0.01 * place + 0.002 * seed,
                    image_to_text={1: 0.41 + 0.01 * place + 0.002 * seed, 5: 0.9, 10: 1.0},
                    text_to_image={1: 0.4, 5: 0.8, 10: 0.9},
                ),
                tested=10_000,
                known=0,
                seconds=62.0,
                device="NVIDIA H200",
            )
            for place, cut in enumerate(_cuts)
            for seed in range(2)
        },
    ),
    seeds=2,
    samples_seen=4_990_000,
    batch_size=128,
    lr=0.001,
    model=PlannedModel(name="proxy", config={"embed_dim": 64}, source="default"),
    pool_samples=998_000,
    test_samples=10_000,
    test_samples_in_pool=0,
    failed=[],
    seconds=248.0,
    devices=["NVIDIA H200"],
    created_at=_WHEN,
)
_webhook = WebhookBody(
    type="job.succeeded",
    timestamp=_WHEN,
    data=JobEnded(id=_JOB_ID, status=JobStatus.SUCCEEDED, reason=None, links={"self": f"/v1/jobs/{_JOB_ID}"}),
)

SPEC: dict[str, Any] = _SPEC
CLEAN: dict[str, Any] = {name: _SPEC[name] for name in ("pool", "checkpoints")} | {"clean": {"fraction": 0.1}}
SAMPLES: dict[str, Any] = SamplePage(samples=[_sample]).model_dump(mode="json")
_clip_score, _diffin = SCORES[Score.CLIP_SCORE], SCORES[Score.DIFFIN]
GROUPS: dict[str, Any] = GroupCounts(
    field="cluster",
    fields=["cluster", "shard"],
    total=1,
    groups=[GroupCount(value="7", samples=31_000, kept=12_400, example="a black square, top right")],
).model_dump(mode="json")
CHANGES: dict[str, Any] = CutDiff(
    k=1200,
    by="clip_score",
    score=Score.CLIP_SCORE,
    entering=410,
    leaving=210,
    enter=[_sample],
    leave=[_sample],
    cuts={Score.DIFFIN: 0.0019, Score.CLIP_SCORE: 0.41},
    overlaps=[700],
).model_dump(mode="json")
SUMMARY: dict[str, Any] = Summary(
    job_id=_JOB_ID,
    k=1000,
    rankable=998_000,
    looked=998_000,
    rankings=[
        Ranking(name="diffin", label=_diffin.label, meaning=_diffin.meaning),
        Ranking(name="clip_score", label=_clip_score.label, meaning=_clip_score.meaning),
    ],
    ks=[1000, 9980],
    cuts={Score.DIFFIN: [0.002, 0.0011], Score.CLIP_SCORE: [0.41, 0.38]},
    overlaps=[[640, 7150]],
    histograms={Score.CLIP_SCORE: Histogram(axis=Axis(low=0.0, high=0.5), counts=[1, 2], kept=[0, 1])},
    densities=[Density(across=Score.CLIP_SCORE, up=Score.DIFFIN, cells=[(12, 40, 7)])],
    sheets=[Sheet(name="highest", title="Highest CLIP score", score=Score.CLIP_SCORE, samples=[_sample])],
    steps=[7812.0],
    files={"report.html": f"s3://coresets/jobs/{_JOB_ID}/report.html"},
).model_dump(mode="json")
SELECT: dict[str, Any] = {
    "fraction": 0.3,
    "by": {"diffin": 1, "clip_score": 1},
    "filters": {"clip_score": {"min": 0.2}, "caption_words": {"min": 3}},
    "quota": {"field": "cluster", "max_share": 0.1},
}
JOB: dict[str, Any] = _job.model_dump(mode="json")
JOBS: dict[str, Any] = JobPage(jobs=[_job]).model_dump(mode="json")
MANIFEST: dict[str, Any] = _manifest.model_dump(mode="json")
EVALUATION: dict[str, Any] = _evaluation.model_dump(mode="json")
WEBHOOK: dict[str, Any] = _webhook.model_dump(mode="json")
PREFLIGHT: dict[str, Any] = _preflight.model_dump(mode="json")
SELECTION: dict[str, Any] = _selection.model_dump(mode="json")
DIAGNOSIS: dict[str, Any] = Diagnosis(
    id=_JOB_ID,
    status=JobStatus.SCORING,
    tasks={"waiting": 3, "running": 1, "deferred": 2, "ended": 4},
    shards=7,
    parts=3,
    findings=[
        Finding(
            code="lost-tasks",
            what=f"tasks are in no queue and on no worker: {_JOB_ID}-score-4",
            cure="put back on the queue",
            mendable=True,
        )
    ],
).model_dump(mode="json")
SELECTIONS: dict[str, Any] = SelectionPage(selections=[_selection]).model_dump(mode="json")
ROW: dict[str, Any] = {
    "uid": "1f0c5a2b7d3e4f608192a3b4c5d6e7f8",
    "shard": "000000.tar",
    "key": "000000000",
    "row": 0,
    "uid_source": "json",
    "status": "ok",
    "caption": "a red bicycle in front of a white wall",
    "image_width": 640,
    "image_height": 480,
    "cluster": 7,
    "diffin": 0.0031,
    "clip_score": 0.2871,
}
EVENTS = "".join(
    f"event: {event.type}\nid: 1764072000000-{number}\ndata: {event.model_dump_json()}\n\n"
    for number, event in enumerate(_MILESTONES)
)
PROBLEM: dict[str, Any] = {
    "type": "/problems/not-found",
    "title": "There is no such thing",
    "status": 404,
    "detail": f"there is no job {_JOB_ID}",
    "request_id": "8f14e45fceea167a5a36dedd4bea2543",
}
ALL: list[dict[str, Any]] = [
    CHANGES,
    GROUPS,
    DIAGNOSIS,
    EVALUATION,
    SAMPLES,
    SUMMARY,
    SPEC,
    CLEAN,
    SELECT,
    JOB,
    JOBS,
    MANIFEST,
    PREFLIGHT,
    SELECTION,
    WEBHOOK,
]
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "A problem (RFC 9457)", "content": {"application/problem+json": {"example": PROBLEM}}},
    "5XX": {"description": "A problem (RFC 9457)", "content": {"application/problem+json": {"example": PROBLEM}}},
}


def answers(example: Any, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route: its example, and the problems."""
    return {status: {"content": {"application/json": {"example": example}}}, **PROBLEMS}
