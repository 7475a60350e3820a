"""Examples for the OpenAPI page, made from the models, so that they are always valid."""

from datetime import UTC, datetime
from typing import Any

from coreset.job import Job, JobPage, JobStatus, Progress, SampleCounts, ShardCounts
from coreset.result import File, Selection
from coreset.spec import JobSpec, SelectSpec

_SPEC: dict[str, Any] = {
    "pool": {"shards": ["s3://pool/{000000..000099}.tar"]},
    "checkpoints": {"run": "s3://runs/vit-b-32"},
    "select": {"fraction": 0.3, "by": {"diffin": 1, "clip_score": 1}},
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
    links={"self": f"/v1/jobs/{_JOB_ID}", "cancel": f"/v1/jobs/{_JOB_ID}/cancel"},
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

SPEC: dict[str, Any] = _SPEC
SELECT: dict[str, Any] = {"k": 1000, "by": {"clip_score": 1}}
JOB: dict[str, Any] = _job.model_dump(mode="json")
JOBS: dict[str, Any] = JobPage(jobs=[_job]).model_dump(mode="json")
SELECTION: dict[str, Any] = _selection.model_dump(mode="json")
PROBLEM: dict[str, Any] = {
    "type": "/problems/not-found",
    "title": "There is no such thing",
    "status": 404,
    "detail": f"there is no job {_JOB_ID}",
    "request_id": "8f14e45fceea167a5a36dedd4bea2543",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "A problem (RFC 9457)", "content": {"application/problem+json": {"example": PROBLEM}}},
    "5XX": {"description": "A problem (RFC 9457)", "content": {"application/problem+json": {"example": PROBLEM}}},
}


def answers(example: Any, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route: its example, and problems."""
    return {status: {"content": {"application/json": {"example": example}}}, **PROBLEMS}
