"""What the routes work with, one of each a process, kept on the app."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Annotated, Protocol, cast

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry

from coreset.access.api_keys import Keyring
from coreset.access.locations import Locations
from coreset.queue.job_store import JobStore
from coreset.queue.task_queue import TaskQueue
from coreset.schemas.manifest import Selection
from coreset.schemas.plan import Plan
from coreset.settings import ServiceSettings
from coreset.spec.job import SelectSpec
from coreset.storage.storage import Storage
from coreset_service.http.auth import payer_of
from coreset_service.http.limits import Costly, Rates
from coreset_service.http.sessions import Sessions
from coreset_service.score_tables import Looks


class Select(Protocol):
    """Cuts a coreset from a job's parts (coreset.select.select)."""

    def __call__(self, storage: Storage, plan: Plan, job_id: str, spec: SelectSpec) -> Selection: ...


@dataclass(frozen=True)
class Context:
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
    costly: Costly = field(default_factory=Costly)
    looks: Looks = field(default_factory=Looks)


def context_of(request: Request) -> Context:
    return cast(Context, request.app.state.context)


Ctx = Annotated[Context, Depends(context_of)]


async def _turn(request: Request) -> AsyncGenerator[None]:
    """Wait for the caller's turn at costly answers, and keep it until the answer is sent."""
    async with context_of(request).costly.turn(payer_of(request.scope)):
        yield


COSTLY = Depends(_turn)
"""For routes that read many rows, cut selections or check long specs."""
