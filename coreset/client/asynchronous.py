"""The client for programs that do other things meanwhile, on asyncio."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx

from coreset.client.blocking import HTTP_SECONDS
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

Value = TypeVar("Value")


class AsyncClient:
    """The same as Client, to be awaited. Close it, or use it in an `async with`.

    Arguments, answers and errors are Client's, whose methods say what each does.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        patience: float | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._calls = Calls(url, patience)
        self.url = self._calls.url
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=HTTP_SECONDS, transport=transport)

    async def submit(self, spec: JobSpec | Mapping[str, Any], idempotency_key: str | None = None) -> Job:
        return await self._run(self._calls.submit(spec, idempotency_key))

    async def check(self, spec: JobSpec | Mapping[str, Any]) -> Preflight:
        return await self._run(self._calls.check(spec))

    async def get(self, job_id: str) -> Job:
        return await self._run(self._calls.get(job_id))

    async def page(self, size: int = 20, token: str | None = None, status: JobStatus | None = None) -> JobPage:
        return await self._run(self._calls.page(size, token, status))

    async def jobs(self, status: JobStatus | None = None) -> AsyncIterator[Job]:
        async for page in self._pages(lambda token: self._calls.page(LARGEST_PAGE, token, status)):
            for job in page.jobs:
                yield job

    async def wait(
        self, job_id: str, progress: Callable[[Job], object] | None = None, timeout: float | None = None
    ) -> Job:
        """Wait until the job has ended. `progress` may be a coroutine function."""
        return await self._run(self._calls.wait(job_id, progress, timeout))

    async def events(self, job_id: str, after: str = "") -> AsyncIterator[Told]:
        listening = Listening(self.url, job_id, after, self._calls.patience)
        while not listening.ended:
            outcome: httpx.Response | httpx.TransportError
            try:
                async with self._http.stream("GET", listening.path, headers=listening.headers) as outcome:
                    if outcome.status_code >= 400:
                        await outcome.aread()
                    if listening.opened(outcome):
                        async for line in outcome.aiter_lines():
                            if (told := listening.hear(line)) is not None:
                                yield told
            except httpx.TransportError as error:
                outcome = error
            if not listening.ended:
                await asyncio.sleep(listening.pause_after(outcome))

    async def cancel(self, job_id: str) -> Job:
        return await self._run(self._calls.cancel(job_id))

    async def delete(self, job_id: str) -> None:
        return await self._run(self._calls.delete(job_id))

    async def result(self, job_id: str) -> Manifest:
        return await self._run(self._calls.result(job_id))

    async def report(self, job_id: str) -> bytes:
        return await self._run(self._calls.report(job_id))

    async def evaluation(self, job_id: str) -> Evaluation:
        return await self._run(self._calls.evaluation(job_id))

    async def scores(self, job_id: str, columns: list[str] | None = None) -> "pa.Table":
        """Return the rows of all parts. Files are read in a thread."""
        return await self._run(self._calls.scores(job_id, columns))

    async def select(self, job_id: str, spec: SelectSpec | Mapping[str, Any]) -> Selection:
        return await self._run(self._calls.select(job_id, spec))

    async def selection(self, job_id: str, selection_id: str) -> Selection:
        return await self._run(self._calls.selection(job_id, selection_id))

    async def selection_page(self, job_id: str, size: int = 20, token: str | None = None) -> SelectionPage:
        return await self._run(self._calls.selection_page(job_id, size, token))

    async def selections(self, job_id: str) -> AsyncIterator[Selection]:
        async for page in self._pages(lambda token: self._calls.selection_page(job_id, LARGEST_PAGE, token)):
            for selection in page.selections:
                yield selection

    async def sample_page(
        self, job_id: str, order: AnyOrder = None, size: int = 24, token: str | None = None
    ) -> SamplePage:
        return await self._run(self._calls.sample_page(job_id, order, size, token))

    async def samples(self, job_id: str, order: AnyOrder = None) -> AsyncIterator[SampleView]:
        async for page in self._pages(lambda token: self._calls.sample_page(job_id, order, LARGEST_PAGE, token)):
            for sample in page.samples:
                yield sample

    async def download(self, job_id: str, selection_id: str, name: str) -> bytes:
        return await self._run(self._calls.download(job_id, selection_id, name))

    async def diagnosis(self, job_id: str) -> Diagnosis:
        return await self._run(self._calls.diagnosis(job_id))

    async def mend(self, job_id: str) -> Diagnosis:
        return await self._run(self._calls.mend(job_id))

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _pages(self, flow: Callable[[str | None], Flow[AnyPage]]) -> AsyncIterator[AnyPage]:
        page = await self._run(flow(None))
        yield page
        while page.next_page_token is not None:
            page = await self._run(flow(page.next_page_token))
            yield page

    async def _run(self, flow: Flow[Value]) -> Value:
        outcome = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                return end.value
            outcome = await self._perform(step)

    async def _perform(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        if isinstance(step, Tell):
            told = step.listener(step.value)
            return await told if inspect.isawaitable(told) else told
        if not isinstance(step, Ask):
            return await asyncio.to_thread(step.function)
        try:
            return await self._http.request(step.method, step.path, **step.options)
        except httpx.TransportError as error:
            return error
