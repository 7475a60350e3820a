"""Operations of the API as generators of effects (coreset.client.effects), for both clients."""

import time
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from coreset.client.effects import CallBlocking, CallListener, Operation, SendRequest, Sleep, send_with_retries
from coreset.client.responses import read
from coreset.client.specs import plain
from coreset.errors import Unavailable, needs_extra
from coreset.schemas.diagnosis import Diagnosis
from coreset.schemas.evaluation import Evaluation
from coreset.schemas.job import TERMINAL, Job, JobPage, JobStatus
from coreset.schemas.manifest import Manifest, Selection, SelectionPage
from coreset.schemas.preflight import Preflight
from coreset.schemas.sample import Order, SamplePage
from coreset.spec.job import JobSpec
from coreset.spec.selection import SelectSpec

if TYPE_CHECKING:
    import pyarrow as pa

CHECK_SECONDS = 660.0
"""HTTP timeout of a check, longer than the longest settings.check_seconds."""
LONG_POLL_SECONDS = 20
NOT_MODIFIED = 304
DEFAULT_PATIENCE = 60.0
ARROW = "application/vnd.apache.arrow.stream"

AnyOrder = Order | Mapping[str, Any] | None
AnyPage = TypeVar("AnyPage", JobPage, SelectionPage, SamplePage)


class Operations:
    """Operations of one service. coreset.client.blocking.Client documents their arguments, results and errors."""

    def __init__(self, url: str, patience: float | None) -> None:
        self.url = url.rstrip("/")
        self.patience = DEFAULT_PATIENCE if patience is None else patience

    def submit(self, spec: JobSpec | Mapping[str, Any], idempotency_key: str | None) -> Operation[Job]:
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return read(Job, (yield from self._send("POST", "/v1/jobs", json=plain(spec), headers=headers)))

    def check(self, spec: JobSpec | Mapping[str, Any]) -> Operation[Preflight]:
        options: dict[str, Any] = {"json": plain(spec), "params": {"validate_only": True}, "timeout": CHECK_SECONDS}
        while True:
            try:
                return read(Preflight, (yield from self._send("POST", "/v1/jobs", **options)))
            except Unavailable as error:
                if error.data.get("check") != "running":
                    raise

    def get(self, job_id: str) -> Operation[Job]:
        return read(Job, (yield from self._send("GET", f"/v1/jobs/{job_id}")))

    def page(self, size: int, token: str | None, status: JobStatus | None, label: str | None) -> Operation[JobPage]:
        query = _given(page_size=size, page_token=token, status=status, label=label)
        return read(JobPage, (yield from self._send("GET", "/v1/jobs", params=query)))

    def wait(self, job_id: str, progress: Callable[[Job], object] | None, timeout: float | None) -> Operation[Job]:
        deadline = time.monotonic() + timeout if timeout is not None else None
        etag, job = "", None
        while True:
            left = LONG_POLL_SECONDS if deadline is None else min(LONG_POLL_SECONDS, deadline - time.monotonic())
            wait = 0 if job is None else max(0, int(left))  # the first answer is wanted at once
            options = {"params": {"wait": wait}, "headers": {"If-None-Match": etag}}
            answer = yield from self._send("GET", f"/v1/jobs/{job_id}", **options)
            if answer.status_code != NOT_MODIFIED:
                etag, job = answer.headers.get("ETag", ""), read(Job, answer)
                if progress is not None:
                    yield CallListener(progress, job)
            if job is not None and job.status in TERMINAL:
                return job
            if deadline is not None and time.monotonic() >= deadline:
                raise Unavailable(f"job {job_id} has not ended within {timeout:g} s; it continues", id=job_id)
            if left < 1:
                yield Sleep(max(0.0, left))

    def cancel(self, job_id: str) -> Operation[Job]:
        return read(Job, (yield from self._send("POST", f"/v1/jobs/{job_id}/cancel")))

    def delete(self, job_id: str) -> Operation[None]:
        yield from self._send("DELETE", f"/v1/jobs/{job_id}")

    def result(self, job_id: str) -> Operation[Manifest]:
        return read(Manifest, (yield from self._send("GET", f"/v1/jobs/{job_id}/result")))

    def report(self, job_id: str) -> Operation[bytes]:
        return (yield from self._send("GET", f"/v1/jobs/{job_id}/report")).content

    def evaluation(self, job_id: str) -> Operation[Evaluation]:
        return read(Evaluation, (yield from self._send("GET", f"/v1/jobs/{job_id}/evaluation")))

    def select(self, job_id: str, spec: SelectSpec | Mapping[str, Any]) -> Operation[Selection]:
        return read(Selection, (yield from self._send("POST", f"/v1/jobs/{job_id}/selections", json=plain(spec))))

    def selection(self, job_id: str, selection_id: str) -> Operation[Selection]:
        return read(Selection, (yield from self._send("GET", f"/v1/jobs/{job_id}/selections/{selection_id}")))

    def selection_page(self, job_id: str, size: int, token: str | None) -> Operation[SelectionPage]:
        query = _given(page_size=size, page_token=token)
        return read(SelectionPage, (yield from self._send("GET", f"/v1/jobs/{job_id}/selections", params=query)))

    def sample_page(self, job_id: str, order: AnyOrder, size: int, token: str | None) -> Operation[SamplePage]:
        query = _given(**plain(order or {}), page_size=size, page_token=token)
        return read(SamplePage, (yield from self._send("GET", f"/v1/jobs/{job_id}/samples", params=query)))

    def download(self, job_id: str, selection_id: str, name: str) -> Operation[bytes]:
        path = f"/v1/jobs/{job_id}/selections/{selection_id}/files/{name}"
        return (yield from self._send("GET", path)).content

    def scores(self, job_id: str, columns: list[str] | None) -> "Operation[pa.Table]":
        with needs_extra("scores", "Client.scores"):
            from coreset.client.scores import from_answer, from_parts
        manifest = yield from self.result(job_id)
        table: pa.Table | None = yield CallBlocking(lambda: from_parts(manifest.parts, columns))
        if table is not None:
            return table
        options: dict[str, Any] = {"params": {"fields": ",".join(columns)} if columns else {}}
        answer = yield from self._send("GET", f"/v1/jobs/{job_id}/scores", headers={"Accept": ARROW}, **options)
        return from_answer(answer.content)

    def diagnosis(self, job_id: str) -> Operation[Diagnosis]:
        return read(Diagnosis, (yield from self._send("GET", f"/v1/jobs/{job_id}/diagnosis")))

    def mend(self, job_id: str) -> Operation[Diagnosis]:
        return read(Diagnosis, (yield from self._send("POST", f"/v1/jobs/{job_id}/mend")))

    def _send(self, method: str, path: str, **options: Any) -> Operation[httpx.Response]:
        return send_with_retries(self.url, self.patience, SendRequest(method, path, options))


def _given(**query: Any) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}
