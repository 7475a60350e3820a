"""Objects that the routes share: one of each per process, kept on the app; and parameters that several routes have."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Annotated, Protocol, cast

from fastapi import Depends, Path, Request
from prometheus_client import CollectorRegistry

from coreset.access.api_keys import Keyring
from coreset.access.locations import Locations
from coreset.errors import Conflict
from coreset.queue.job_store import JobStore
from coreset.queue.task_queue import TaskQueue
from coreset.schemas.job import Job, JobStatus
from coreset.schemas.manifest import Selection
from coreset.schemas.plan import Plan
from coreset.settings import ServiceSettings
from coreset.spec.json_text import parse_json
from coreset.spec.selection import SelectSpec
from coreset.storage.layout import load_plan
from coreset.storage.storage import Storage
from coreset_service.http.auth import payer_of
from coreset_service.http.limits import Costly, Rates
from coreset_service.http.sessions import Sessions
from coreset_service.inputs import InputCheck
from coreset_service.score_tables import GroupCountCache, ScoreTables
from coreset_service.shared_check import SharedCheck

JobId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="id of the job")]


class Select(Protocol):
    """Selects a coreset from a job's parts (coreset.selection.select.select)."""

    def __call__(self, storage: Storage, plan: Plan, job_id: str, spec: SelectSpec) -> Selection: ...


@dataclass(frozen=True)
class Context:
    """Everything that the routes work with."""

    settings: ServiceSettings
    store: JobStore
    queue: TaskQueue
    storage: Storage
    select: Select
    metrics: CollectorRegistry
    keyring: Keyring
    locations: Locations
    sessions: Sessions
    rates: Rates
    inputs: InputCheck
    takes_writes: SharedCheck
    costly: Costly = field(default_factory=Costly)
    score_tables: ScoreTables = field(default_factory=ScoreTables)
    group_counts: GroupCountCache = field(default_factory=GroupCountCache)


def context_of(request: Request) -> Context:
    """Return the context of the request's app."""
    return cast(Context, request.app.state.context)


Ctx = Annotated[Context, Depends(context_of)]


async def _turn(request: Request) -> AsyncGenerator[None]:
    """Wait for the caller's turn at costly answers, and keep it until the answer is sent."""
    async with context_of(request).costly.turn(payer_of(request.scope)):
        yield


COSTLY = Depends(_turn)
"""For routes that read many rows, cut selections or check long specs."""


def require_success(context: Context, job_id: str) -> Job:
    """Return a job that has succeeded.

    Raises:
        NotFound: there is no such job.
        Conflict: it has not succeeded.
    """
    job = context.store.get(job_id)
    if job.status is not JobStatus.SUCCEEDED:
        raise Conflict(f"job {job_id} is {job.status.value}; it has a result once it has succeeded", id=job_id)
    return job


def plan_of(context: Context, job_id: str) -> Plan:
    """Return the plan of a job that has succeeded. Raises NotFound and Conflict, as require_success does."""
    job = require_success(context, job_id)
    if job.plan_id is None:
        raise Conflict(f"job {job_id} has no plan", id=job_id)
    return load_plan(context.storage, job.plan_id)


async def require_single_keys(request: Request) -> None:
    """Raise InvalidSpec if a key stands twice in one object of the JSON body; FastAPI's parser takes the last."""
    parse_json(await request.body())


SINGLE_KEYS = Depends(require_single_keys)
