"""Client for asyncio."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
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


class AsyncClient:
    """Client for asyncio, with the methods of Client. Close it, or use it in an `async with`.

    Client documents what each method does, its arguments, results and errors.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        patience: float | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._operations = Operations(url, patience)
        self.url = self._operations.url
        with proxy_errors():
            self._http = httpx.AsyncClient(**http_options(self.url, api_key), transport=transport)

    async def submit(self, spec: JobSpec | Mapping[str, Any], idempotency_key: str | None = None) -> Job:
        return await self._run(self._operations.submit(spec, idempotency_key))

    async def check(self, spec: JobSpec | Mapping[str, Any]) -> Preflight:
        return await self._run(self._operations.check(spec))

    async def get(self, job_id: str) -> Job:
        return await self._run(self._operations.get(job_id))

    async def page(
        self, size: int = 20, token: str | None = None, status: JobStatus | None = None, label: str | None = None
    ) -> JobPage:
        return await self._run(self._operations.page(size, token, status, label))

    async def jobs(self, status: JobStatus | None = None, label: str | None = None) -> AsyncIterator[Job]:
        async for page in self._pages(lambda token: self._operations.page(MAX_PAGE_SAMPLES, token, status, label)):
            for job in page.jobs:
                yield job

    async def wait(
        self, job_id: str, progress: Callable[[Job], object] | None = None, timeout: float | None = None
    ) -> Job:
        """Wait until the job has ended. `progress` may be a coroutine function."""
        return await self._run(self._operations.wait(job_id, progress, timeout))

    async def events(self, job_id: str, after: str = "") -> AsyncIterator[StreamedEvent]:
        stream = EventStream(self.url, job_id, after, self._operations.patience)
        while not stream.ended:
            outcome: httpx.Response | httpx.TransportError
            try:
                async with self._http.stream("GET", stream.path, headers=stream.headers) as outcome:
                    if outcome.status_code >= 400:
                        await outcome.aread()
                    if stream.opened(outcome):
                        async for sent in EventSource(outcome).aiter_sse():
                            if (event := stream.receive(sent)) is not None:
                                yield event
            except httpx.TransportError as error:
                outcome = error
            if not stream.ended:
                await asyncio.sleep(stream.pause_after(outcome))

    async def cancel(self, job_id: str) -> Job:
        return await self._run(self._operations.cancel(job_id))

    async def delete(self, job_id: str) -> None:
        return await self._run(self._operations.delete(job_id))

    async def result(self, job_id: str) -> Manifest:
        return await self._run(self._operations.result(job_id))

    async def report(self, job_id: str) -> bytes:
        return await self._run(self._operations.report(job_id))

    async def evaluation(self, job_id: str) -> Evaluation:
        return await self._run(self._operations.evaluation(job_id))

    async def scores(self, job_id: str, columns: list[str] | None = None) -> "pa.Table":
        """Return the rows of all parts; files are read in a thread."""
        return await self._run(self._operations.scores(job_id, columns))

    async def select(self, job_id: str, spec: SelectSpec | Mapping[str, Any]) -> Selection:
        return await self._run(self._operations.select(job_id, spec))

    async def selection(self, job_id: str, selection_id: str) -> Selection:
        return await self._run(self._operations.selection(job_id, selection_id))

    async def selection_page(self, job_id: str, size: int = 20, token: str | None = None) -> SelectionPage:
        return await self._run(self._operations.selection_page(job_id, size, token))

    async def selections(self, job_id: str) -> AsyncIterator[Selection]:
        async for page in self._pages(lambda token: self._operations.selection_page(job_id, MAX_PAGE_SAMPLES, token)):
            for selection in page.selections:
                yield selection

    async def sample_page(
        self, job_id: str, order: AnyOrder = None, size: int = 24, token: str | None = None
    ) -> SamplePage:
        return await self._run(self._operations.sample_page(job_id, order, size, token))

    async def samples(self, job_id: str, order: AnyOrder = None) -> AsyncIterator[SampleView]:
        async for page in self._pages(
            lambda token: self._operations.sample_page(job_id, order, MAX_PAGE_SAMPLES, token)
        ):
            for sample in page.samples:
                yield sample

    async def download(self, job_id: str, selection_id: str, name: str) -> bytes:
        return await self._run(self._operations.download(job_id, selection_id, name))

    async def diagnosis(self, job_id: str) -> Diagnosis:
        return await self._run(self._operations.diagnosis(job_id))

    async def mend(self, job_id: str) -> Diagnosis:
        return await self._run(self._operations.mend(job_id))

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _pages(self, operation: Callable[[str | None], Operation[AnyPage]]) -> AsyncIterator[AnyPage]:
        page = await self._run(operation(None))
        yield page
        while page.next_page_token is not None:
            page = await self._run(operation(page.next_page_token))
            yield page

    async def _run(self, operation: Operation[Value]) -> Value:
        outcome = None
        while True:
            try:
                effect = operation.send(outcome)
            except StopIteration as end:
                return end.value
            outcome = await self._perform(effect)

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Sleep):
            return await asyncio.sleep(effect.seconds)
        if isinstance(effect, CallListener):
            result = effect.listener(effect.value)
            return await result if inspect.isawaitable(result) else result
        if not isinstance(effect, SendRequest):
            return await asyncio.to_thread(effect.function)
        try:
            return await self._http.request(effect.method, effect.path, **effect.options)
        except httpx.TransportError as error:
            return error
