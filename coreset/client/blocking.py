"""The client for programs that wait for each answer."""

import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx

from coreset.client.effects import Ask, Flow, Pause, Step, Tell
from coreset.client.event_stream import Listening, Told
from coreset.client.operations import AnyOrder, AnyPage, Calls
from coreset.schemas.diagnosis import Diagnosis
from coreset.schemas.evaluation import Evaluation
from coreset.schemas.job import Job, JobPage, JobStatus
from coreset.schemas.manifest import Manifest, Selection, SelectionPage
from coreset.schemas.preflight import Preflight
from coreset.schemas.sample import LARGEST_PAGE, SamplePage, SampleView
from coreset.spec.job import JobSpec, SelectSpec

if TYPE_CHECKING:
    import pyarrow as pa

HTTP_SECONDS = 30.0
"""For any silence; longer than a long poll, and than the pause between the comments of an event stream."""

Value = TypeVar("Value")


class Client:
    """A client of one service. Close it, or use it in a `with`.

    Every method raises the errors of coreset.errors: those of the service's problem answers, and Unavailable when it
    cannot be reached for `patience` seconds.

    Args:
        url: of the service, without /v1.
        api_key: sent as a bearer token.
        patience: seconds for which lost connections and the answers 429, 502, 503 and 504 are tried again, at the pace
            that Retry-After asks for; None is a minute.
        transport: of httpx; for tests.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        patience: float | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._calls = Calls(url, patience)
        self.url = self._calls.url
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=HTTP_SECONDS, transport=transport)

    def submit(self, spec: JobSpec | Mapping[str, Any], idempotency_key: str | None = None) -> Job:
        """Start a job. The same key again within 24 hours gives the same job.

        Without a key one is drawn, so that a lost connection is tried again without starting a second job.
        """
        return self._run(self._calls.submit(spec, idempotency_key))

    def check(self, spec: JobSpec | Mapping[str, Any]) -> Preflight:
        """Plan a job without starting it: what a worker found, what the job would take, and where it would write.

        Raises:
            InvalidInput: what would make the job fail; names the shard, the key or the checkpoint.
            Unavailable: no worker is alive, or all are busy, for `patience` seconds. A check that runs is waited for.
        """
        return self._run(self._calls.check(spec))

    def get(self, job_id: str) -> Job:
        return self._run(self._calls.get(job_id))

    def page(self, size: int = 20, token: str | None = None, status: JobStatus | None = None) -> JobPage:
        """Return a page of jobs, newest first."""
        return self._run(self._calls.page(size, token, status))

    def jobs(self, status: JobStatus | None = None) -> Iterator[Job]:
        """Yield all jobs, newest first."""
        for page in self._pages(lambda token: self._calls.page(LARGEST_PAGE, token, status)):
            yield from page.jobs

    def wait(self, job_id: str, progress: Callable[[Job], object] | None = None, timeout: float | None = None) -> Job:
        """Wait until the job has ended, well or not. Goes on after a lost connection or a restart of the service.

        Args:
            progress: called with the job as it is now, and after each change.
            timeout: seconds.

        Raises:
            Unavailable: also at the timeout.
        """
        return self._run(self._calls.wait(job_id, progress, timeout))

    def events(self, job_id: str, after: str = "") -> Iterator[Told]:
        """Yield a job's events until it has ended, each with the id after which the stream goes on.

        A lost connection is opened again where it broke off: no milestone is left out or told twice.

        Args:
            after: the last id that is known; empty begins at the job's first event.
        """
        listening = Listening(self.url, job_id, after, self._calls.patience)
        while not listening.ended:
            outcome: httpx.Response | httpx.TransportError
            try:
                with self._http.stream("GET", listening.path, headers=listening.headers) as outcome:
                    if outcome.status_code >= 400:
                        outcome.read()
                    for line in outcome.iter_lines() if listening.opened(outcome) else ():
                        if (told := listening.hear(line)) is not None:
                            yield told
            except httpx.TransportError as error:
                outcome = error
            if not listening.ended:
                time.sleep(listening.pause_after(outcome))

    def cancel(self, job_id: str) -> Job:
        """Ask for the job's end. Raises Conflict when it has ended."""
        return self._run(self._calls.cancel(job_id))

    def delete(self, job_id: str) -> None:
        """Delete a job that has ended, with its files. Raises Conflict when it has not.

        A lost answer is asked for again, and is then NotFound.
        """
        return self._run(self._calls.delete(job_id))

    def result(self, job_id: str) -> Manifest:
        """Return the manifest. Raises Conflict until the job has succeeded."""
        return self._run(self._calls.result(job_id))

    def report(self, job_id: str) -> bytes:
        """Return the report, an HTML page. Raises Conflict until the job has succeeded."""
        return self._run(self._calls.report(job_id))

    def evaluation(self, job_id: str) -> Evaluation:
        """Return what the job's selections are worth. Raises NotFound if its spec has no `evaluate`, and Conflict until
        it has succeeded.
        """
        return self._run(self._calls.evaluation(job_id))

    def scores(self, job_id: str, columns: list[str] | None = None) -> "pa.Table":
        """Return the rows of all parts, bad samples too, in pool order (columns: coreset.schemas.part).

        The parts are read where the manifest says they are, if this machine can; else the service sends the rows.
        Needs the `scores` extra (pyarrow); raises InvalidInput without it.
        """
        return self._run(self._calls.scores(job_id, columns))

    def select(self, job_id: str, spec: SelectSpec | Mapping[str, Any]) -> Selection:
        """Cut another coreset from the job's scores."""
        return self._run(self._calls.select(job_id, spec))

    def selection(self, job_id: str, selection_id: str) -> Selection:
        return self._run(self._calls.selection(job_id, selection_id))

    def selection_page(self, job_id: str, size: int = 20, token: str | None = None) -> SelectionPage:
        """Return a page of a job's selections, newest first."""
        return self._run(self._calls.selection_page(job_id, size, token))

    def selections(self, job_id: str) -> Iterator[Selection]:
        """Yield all selections of a job, newest first; the last one is that of its spec."""
        for page in self._pages(lambda token: self._calls.selection_page(job_id, LARGEST_PAGE, token)):
            yield from page.selections

    def sample_page(self, job_id: str, order: AnyOrder = None, size: int = 24, token: str | None = None) -> SamplePage:
        """Return a page of samples with captions, scores and thumbnails.

        Args:
            order: which score to sort by, and whether good samples are wanted or those that are bad in one way;
                without it good ones by uid.
            token: next_page_token of the page before, asked for with the same order.
        """
        return self._run(self._calls.sample_page(job_id, order, size, token))

    def samples(self, job_id: str, order: AnyOrder = None) -> Iterator[SampleView]:
        """Yield samples one after another, as `sample_page` has them; stop whenever there are enough."""
        for page in self._pages(lambda token: self._calls.sample_page(job_id, order, LARGEST_PAGE, token)):
            yield from page.samples

    def download(self, job_id: str, selection_id: str, name: str) -> bytes:
        """Return a file of a selection: subset.npy, subset.parquet or selection.json."""
        return self._run(self._calls.download(job_id, selection_id, name))

    def diagnosis(self, job_id: str) -> Diagnosis:
        """Compare the job's record, the queue and the storage."""
        return self._run(self._calls.diagnosis(job_id))

    def mend(self, job_id: str) -> Diagnosis:
        """Do the same, and mend what can be mended. Returns what was found before."""
        return self._run(self._calls.mend(job_id))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pages(self, flow: Callable[[str | None], Flow[AnyPage]]) -> Iterator[AnyPage]:
        page = self._run(flow(None))
        yield page
        while page.next_page_token is not None:
            page = self._run(flow(page.next_page_token))
            yield page

    def _run(self, flow: Flow[Value]) -> Value:
        outcome = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                return end.value
            outcome = self._perform(step)

    def _perform(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        if isinstance(step, Tell):
            return step.listener(step.value)
        if not isinstance(step, Ask):
            return step.function()
        try:
            return self._http.request(step.method, step.path, **step.options)
        except httpx.TransportError as error:
            return error
