"""Blocking client."""

import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
from httpx_sse import EventSource

from coreset.client.effects import CallListener, Effect, Operation, SendRequest, Sleep
from coreset.client.event_stream import EventStream, StreamedEvent
from coreset.client.http_options import http_options, proxy_errors
from coreset.client.operations import AnyOrder, AnyPage, Operations
from coreset.schemas.diagnosis import Diagnosis
from coreset.schemas.evaluation import Evaluation
from coreset.schemas.job import Job, JobPage, JobStatus
from coreset.schemas.manifest import Manifest, Selection, SelectionPage
from coreset.schemas.preflight import Preflight
from coreset.schemas.sample import MAX_PAGE_SAMPLES, SamplePage, SampleView
from coreset.spec.job import JobSpec
from coreset.spec.selection import SelectSpec

if TYPE_CHECKING:
    import pyarrow as pa

Value = TypeVar("Value")


class Client:
    """Client of one service. Close it, or use it in a `with`.

    Every method raises the errors of coreset.errors: the problems that the service answers with, and Unavailable if it
    cannot be reached for `patience` seconds.

    Args:
        url: URL of the service, without /v1. The environment's proxies are not used for a loopback address.
        api_key: API key, sent as a bearer token.
        patience: seconds for which lost connections and the answers 429, 502, 503 and 504 are retried, at the pace of
            Retry-After; None is a minute.
        transport: transport of httpx, for tests.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        patience: float | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._operations = Operations(url, patience)
        self.url = self._operations.url
        with proxy_errors():
            self._http = httpx.Client(**http_options(self.url, api_key), transport=transport)

    def submit(self, spec: JobSpec | Mapping[str, Any], idempotency_key: str | None = None) -> Job:
        """Start a job. A repeated key returns the same job, for 24 hours.

        Without a key a random one is sent, so that a request retried after a lost connection starts no second job.
        """
        return self._run(self._operations.submit(spec, idempotency_key))

    def check(self, spec: JobSpec | Mapping[str, Any]) -> Preflight:
        """Plan a job without starting it: its inputs, memory, time and outputs, as a worker determined them.

        Raises:
            InvalidInput: the job would fail; the error names the shard, the key or the checkpoint.
            Unavailable: no worker is alive, or all are busy, for `patience` seconds. A running check is awaited.
        """
        return self._run(self._operations.check(spec))

    def get(self, job_id: str) -> Job:
        return self._run(self._operations.get(job_id))

    def page(
        self, size: int = 20, token: str | None = None, status: JobStatus | None = None, label: str | None = None
    ) -> JobPage:
        """Return a page of jobs, newest first; with `label`, `key:value`, only those that have it."""
        return self._run(self._operations.page(size, token, status, label))

    def jobs(self, status: JobStatus | None = None, label: str | None = None) -> Iterator[Job]:
        """Yield all jobs, newest first."""
        for page in self._pages(lambda token: self._operations.page(MAX_PAGE_SAMPLES, token, status, label)):
            yield from page.jobs

    def wait(self, job_id: str, progress: Callable[[Job], object] | None = None, timeout: float | None = None) -> Job:
        """Wait until the job has ended, successfully or not, across lost connections and restarts of the service.

        Args:
            progress: called with the job at once and after each change.
            timeout: longest wait in seconds.

        Raises:
            Unavailable: the service cannot be reached, or the timeout is over.
        """
        return self._run(self._operations.wait(job_id, progress, timeout))

    def events(self, job_id: str, after: str = "") -> Iterator[StreamedEvent]:
        """Yield a job's events until it has ended, each with the id after which the stream continues.

        A lost connection is reopened at its last event: no milestone is missed or repeated.

        Args:
            after: id of the last known event; empty begins at the job's first event.
        """
        stream = EventStream(self.url, job_id, after, self._operations.patience)
        while not stream.ended:
            outcome: httpx.Response | httpx.TransportError
            try:
                with self._http.stream("GET", stream.path, headers=stream.headers) as outcome:
                    if outcome.status_code >= 400:
                        outcome.read()
                    for sent in EventSource(outcome).iter_sse() if stream.opened(outcome) else ():
                        if (event := stream.receive(sent)) is not None:
                            yield event
            except httpx.TransportError as error:
                outcome = error
            if not stream.ended:
                time.sleep(stream.pause_after(outcome))

    def cancel(self, job_id: str) -> Job:
        """Request the job's cancellation. Raises Conflict if it has ended."""
        return self._run(self._operations.cancel(job_id))

    def delete(self, job_id: str) -> None:
        """Delete a job that has ended, with its files. Raises Conflict if it has not ended.

        If the answer is lost, the request is repeated, and then raises NotFound.
        """
        return self._run(self._operations.delete(job_id))

    def result(self, job_id: str) -> Manifest:
        """Return the manifest. Raises Conflict until the job has succeeded."""
        return self._run(self._operations.result(job_id))

    def report(self, job_id: str) -> bytes:
        """Return the report, an HTML page. Raises Conflict until the job has succeeded."""
        return self._run(self._operations.report(job_id))

    def evaluation(self, job_id: str) -> Evaluation:
        """Return the evaluation of the job's selections.

        Raises:
            NotFound: the job's spec has no `evaluate`.
            Conflict: the job has not succeeded.
        """
        return self._run(self._operations.evaluation(job_id))

    def scores(self, job_id: str, columns: list[str] | None = None) -> "pa.Table":
        """Return the rows of all parts, bad samples too, in pool order (columns: coreset.schemas.part).

        The parts are read where the manifest says they are, if this machine can; else the service sends the rows.
        Needs the `scores` extra (pyarrow); raises InvalidInput without it.
        """
        return self._run(self._operations.scores(job_id, columns))

    def select(self, job_id: str, spec: SelectSpec | Mapping[str, Any]) -> Selection:
        """Select a further coreset from the job's scores."""
        return self._run(self._operations.select(job_id, spec))

    def selection(self, job_id: str, selection_id: str) -> Selection:
        return self._run(self._operations.selection(job_id, selection_id))

    def selection_page(self, job_id: str, size: int = 20, token: str | None = None) -> SelectionPage:
        """Return a page of a job's selections, newest first."""
        return self._run(self._operations.selection_page(job_id, size, token))

    def selections(self, job_id: str) -> Iterator[Selection]:
        """Yield all selections of a job, newest first; the last one is that of the job's spec."""
        for page in self._pages(lambda token: self._operations.selection_page(job_id, MAX_PAGE_SAMPLES, token)):
            yield from page.selections

    def sample_page(self, job_id: str, order: AnyOrder = None, size: int = 24, token: str | None = None) -> SamplePage:
        """Return a page of samples with captions, scores and thumbnails.

        Args:
            order: score to sort by, and status of the samples; by default good samples by uid.
            token: next_page_token of the previous page, with the same order.
        """
        return self._run(self._operations.sample_page(job_id, order, size, token))

    def samples(self, job_id: str, order: AnyOrder = None) -> Iterator[SampleView]:
        """Yield the samples of all pages of `sample_page`, each page fetched when it is reached."""
        for page in self._pages(lambda token: self._operations.sample_page(job_id, order, MAX_PAGE_SAMPLES, token)):
            yield from page.samples

    def download(self, job_id: str, selection_id: str, name: str) -> bytes:
        """Return a file of a selection: subset.npy, subset.parquet or selection.json."""
        return self._run(self._operations.download(job_id, selection_id, name))

    def diagnosis(self, job_id: str) -> Diagnosis:
        """Return the diagnosis of a job from its record, the queue and the storage."""
        return self._run(self._operations.diagnosis(job_id))

    def mend(self, job_id: str) -> Diagnosis:
        """Repair the job as far as possible. Returns the diagnosis from before the repair."""
        return self._run(self._operations.mend(job_id))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pages(self, operation: Callable[[str | None], Operation[AnyPage]]) -> Iterator[AnyPage]:
        page = self._run(operation(None))
        yield page
        while page.next_page_token is not None:
            page = self._run(operation(page.next_page_token))
            yield page

    def _run(self, operation: Operation[Value]) -> Value:
        outcome = None
        while True:
            try:
                effect = operation.send(outcome)
            except StopIteration as end:
                return end.value
            outcome = self._perform(effect)

    def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Sleep):
            return time.sleep(effect.seconds)
        if isinstance(effect, CallListener):
            return effect.listener(effect.value)
        if not isinstance(effect, SendRequest):
            return effect.function()
        try:
            return self._http.request(effect.method, effect.path, **effect.options)
        except httpx.TransportError as error:
            return error
