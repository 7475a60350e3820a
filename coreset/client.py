"""The Python client: jobs over HTTP, with the same models and errors as the service.

client = Client("http://127.0.0.1:8000")
job = client.submit({"pool": ..., "checkpoints": ..., "select": ...})
client.wait(job.id, progress=lambda job: print(job.progress.fraction))
selection = client.select(job.id, SelectSpec(k=1000, by={"clip_score": 1}))
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import httpx
from pydantic import BaseModel, ValidationError

from coreset.diagnosis import Diagnosis
from coreset.errors import CoresetError, InvalidInput, InvalidSpec, NotFound, Unavailable
from coreset.job import TERMINAL, Job, JobPage, JobStatus
from coreset.preflight import Preflight
from coreset.problem_types import error_classes
from coreset.result import Manifest, Selection
from coreset.spec import JobSpec, SelectSpec

CHECK_SECONDS = 660.0
"""Longer than the service's longest wait for a check (settings.check_seconds)."""
LONG_POLL_SECONDS = 20
NOT_MODIFIED = 304
PATIENCE_SECONDS = 60.0
RETRY_STATUS = frozenset({502, 503, 504})

Model = TypeVar("Model", bound=BaseModel)


class Client:
    """A client of one service. Close it, or use it in a `with`.

    Every method raises the errors of coreset.errors: those of the service's problem answers, and Unavailable when it
    cannot be reached for `patience` seconds.

    Args:
        url: of the service, without /v1.
        api_key: sent as a bearer token.
        patience: seconds for which lost connections and 503 answers are tried again; None is PATIENCE_SECONDS.
        transport: of httpx; for tests.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        patience: float | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=30.0, transport=transport)
        self._patience = PATIENCE_SECONDS if patience is None else patience
        self.url = url.rstrip("/")

    def submit(self, spec: JobSpec | Mapping[str, Any], idempotency_key: str | None = None) -> Job:
        """Start a job. A lost connection is tried again with the same key, so there is one job."""
        body = spec.model_dump(mode="json") if isinstance(spec, JobSpec) else dict(spec)
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return _read(Job, self._send("POST", "/v1/jobs", json=body, headers=headers))

    def check(self, spec: JobSpec | Mapping[str, Any]) -> Preflight:
        """Plan a job without starting it: what a worker found, what the job would take, and where it would write.

        Raises:
            InvalidInput: what would make the job fail; names the shard, the key or the checkpoint.
            Unavailable: no worker is alive, or all are busy, for `patience` seconds. A check that runs is waited for.
        """
        body = spec.model_dump(mode="json") if isinstance(spec, JobSpec) else dict(spec)
        options: dict[str, Any] = {"json": body, "params": {"validate_only": True}, "timeout": CHECK_SECONDS}
        while True:
            try:
                answer = self._send("POST", "/v1/jobs", **options)
                return _read(Preflight, answer)
            except Unavailable as error:
                if error.data.get("check") != "running":
                    raise

    def get(self, job_id: str) -> Job:
        return _read(Job, self._send("GET", f"/v1/jobs/{job_id}"))

    def page(self, size: int = 20, token: str | None = None, status: JobStatus | None = None) -> JobPage:
        """Return a page of jobs, newest first."""
        query = {"page_size": size, "page_token": token, "status": status.value if status else None}
        given = {name: value for name, value in query.items() if value is not None}
        return _read(JobPage, self._send("GET", "/v1/jobs", params=given))

    def jobs(self, status: JobStatus | None = None) -> Iterator[Job]:
        """Yield all jobs, newest first."""
        token = None
        while True:
            page = self.page(100, token, status)
            yield from page.jobs
            if (token := page.next_page_token) is None:
                return

    def wait(self, job_id: str, progress: Callable[[Job], object] | None = None, timeout: float | None = None) -> Job:
        """Wait until the job has ended, well or not.

        Args:
            progress: called with the job as it is now, and after each change.
            timeout: seconds.

        Raises:
            Unavailable: also at the timeout.
        """
        deadline = time.monotonic() + timeout if timeout is not None else None
        etag, job = "", None
        while True:
            left = LONG_POLL_SECONDS if deadline is None else min(LONG_POLL_SECONDS, deadline - time.monotonic())
            held = 0 if job is None else max(0, int(left))  # else the first answer would be held to the end
            answer = self._send("GET", f"/v1/jobs/{job_id}", params={"wait": held}, headers={"If-None-Match": etag})
            if answer.status_code != NOT_MODIFIED:
                etag, job = answer.headers.get("ETag", ""), _read(Job, answer)
                if progress is not None:
                    progress(job)
            if job is not None and job.status in TERMINAL:
                return job
            if deadline is not None and time.monotonic() >= deadline:
                raise Unavailable(f"job {job_id} has not ended within {timeout:g} s; it goes on", id=job_id)
            if left < 1:
                time.sleep(max(0.0, left))

    def result(self, job_id: str) -> Manifest:
        """Return the manifest. Raises Conflict until the job has succeeded."""
        return _read(Manifest, self._send("GET", f"/v1/jobs/{job_id}/result"))

    def select(self, job_id: str, spec: SelectSpec | Mapping[str, Any]) -> Selection:
        """Cut another coreset from the job's scores."""
        body = spec.model_dump(mode="json") if isinstance(spec, SelectSpec) else dict(spec)
        return _read(Selection, self._send("POST", f"/v1/jobs/{job_id}/selections", json=body))

    def selection(self, job_id: str, selection_id: str) -> Selection:
        return _read(Selection, self._send("GET", f"/v1/jobs/{job_id}/selections/{selection_id}"))

    def download(self, job_id: str, selection_id: str, name: str) -> bytes:
        """Return a file of a selection: subset.npy, subset.parquet or selection.json."""
        return self._send("GET", f"/v1/jobs/{job_id}/selections/{selection_id}/files/{name}").content

    def cancel(self, job_id: str) -> Job:
        """Ask for the job's end. Raises Conflict when it has ended."""
        return _read(Job, self._send("POST", f"/v1/jobs/{job_id}/cancel"))

    def diagnosis(self, job_id: str) -> Diagnosis:
        """Compare the job's record, the queue and the storage."""
        return _read(Diagnosis, self._send("GET", f"/v1/jobs/{job_id}/diagnosis"))

    def mend(self, job_id: str) -> Diagnosis:
        """Do the same, and mend what can be mended. Returns what was found before."""
        return _read(Diagnosis, self._send("POST", f"/v1/jobs/{job_id}/mend"))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send, again while the service cannot be reached. All our POSTs may be repeated."""
        deadline = time.monotonic() + self._patience
        pause = 0.2
        while True:
            answer = self._try(method, path, options)
            if isinstance(answer, httpx.Response) and answer.status_code not in RETRY_STATUS:
                return _checked(answer)
            if time.monotonic() + pause > deadline:
                return _checked(answer) if isinstance(answer, httpx.Response) else self._unreachable(answer)
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def _try(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response | httpx.TransportError:
        try:
            return self._http.request(method, path, **options)
        except httpx.UnsupportedProtocol as error:
            raise InvalidInput(f"{self.url} is not the URL of a service; write http://HOST:PORT") from error
        except httpx.TransportError as error:
            return error

    def _unreachable(self, error: httpx.TransportError) -> httpx.Response:
        raise Unavailable(f"no service answers at {self.url}; is `coreset up` running?", url=self.url) from error


def _read(model: type[Model], answer: httpx.Response) -> Model:
    """Return the answer's body. Fields that a later service has added are left out."""
    return model.model_validate_json(answer.content, extra="ignore")


def _checked(answer: httpx.Response) -> httpx.Response:
    """Return the answer, or raise what it says."""
    if answer.status_code < 400:
        return answer
    try:
        problem = cast(dict[str, Any], answer.json())
        slug = str(problem["type"]).rsplit("/", 1)[-1]
        detail = str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, TypeError):
        raise Unavailable(f"unexpected answer {answer.status_code} from {answer.url}: is it our service?") from None
    standard = {"type", "title", "status", "detail"}
    data = {name: value for name, value in problem.items() if name not in standard}
    raise _error_class(slug, answer.status_code)(detail, **data)


def _error_class(slug: str, status: int) -> type[CoresetError]:
    by_status = {404: NotFound, 503: Unavailable}
    return error_classes().get(slug) or by_status.get(status) or (InvalidInput if status < 500 else CoresetError)


def validate_spec(body: Any) -> JobSpec:
    """Check a job spec on this side already.

    Raises:
        InvalidSpec: names the field of the first mistake; `errors` has all.
    """
    try:
        return JobSpec.model_validate(body)
    except ValidationError as error:
        errors = [
            {"field": ".".join(map(str, mistake["loc"])), "message": mistake["msg"].removeprefix("Value error, ")}
            for mistake in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        told = "; ".join(f"{mistake['field'] or 'spec'}: {mistake['message']}" for mistake in errors)
        raise InvalidSpec(f"the job spec is not valid: {told}", errors=errors) from error
