"""App factory. Nothing is built at import, so that tests can build an app from parts of their own."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer
from redis import Redis
from starlette.concurrency import run_in_threadpool
from starlette.types import Lifespan

from coreset import __version__
from coreset.access.addresses import is_loopback
from coreset.access.api_keys import read_keyring
from coreset.access.locations import Locations
from coreset.queue.job_store import JobStore
from coreset.queue.task_queue import TaskQueue
from coreset.redis.connection import connect
from coreset.redis.counters import Counters
from coreset.selection.select import select
from coreset.settings import ServiceSettings
from coreset.storage.storage import Storage
from coreset_service.api_docs import describe
from coreset_service.dependencies import Context, Select
from coreset_service.http import problems
from coreset_service.http.auth import Guard
from coreset_service.http.bodies import BODIES_PER_MINUTE, Bodies
from coreset_service.http.limits import Rates
from coreset_service.http.middleware import Envelope
from coreset_service.http.sessions import Sessions
from coreset_service.inputs import InputCheck
from coreset_service.maintenance import Reconciler, Retention
from coreset_service.metrics import RequestMeter, build_registry
from coreset_service.routes import API_ROUTERS, PAGE_ROUTERS
from coreset_service.shared_check import SharedCheck
from coreset_service.webhooks import Outbox, WebhookSender

API_KEY = HTTPBearer(
    scheme_name="api_key",
    description="An API key, where the service has any: scope `read` for GET, `submit` for all else.",
    auto_error=False,  # coreset_service.http.auth has checked it already
)


class BackgroundService(Protocol):
    """A thread that works beside the requests, from the start of the app to its end."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


def create_app(
    settings: ServiceSettings,
    redis: Redis | None = None,
    storage: Storage | None = None,
    select: Select = select,
) -> FastAPI:
    """Build the app; parts that are not given are built from the settings."""
    redis = redis or connect(settings.redis_url, patience=settings.redis_patience)
    store, queue, storage = JobStore(redis), TaskQueue(redis), storage or Storage(settings.storage)
    chores = [Retention(store, queue, storage).sweep, queue.preflights.drop_abandoned]
    threads: list[BackgroundService] = [Reconciler(store, queue, settings.reconcile_seconds, chores)]
    if settings.webhook_secret is not None:
        secret = settings.webhook_secret.get_secret_value()
        threads.append(WebhookSender(Outbox(redis), secret, settings.webhook_private))
    app = FastAPI(
        title="Coreset selection service",
        version=__version__,
        redirect_slashes=False,
        docs_url=None,  # FastAPI's page loads scripts from another site; coreset_service.routes.reference replaces it
        redoc_url=None,
        lifespan=_with(threads),
        description="Score image-text pools with the Diff-In training influence and CLIP score, and select coresets.",
    )
    counters = Counters(redis)
    metrics = build_registry(store, queue, counters)
    keyring = read_keyring(settings.api_keys, settings.api_keys_file)
    locations = Locations.parse(settings.allowed_uris, local=is_loopback(settings.host))
    sessions = Sessions(redis, keyring)
    rates = Rates(settings.rate_per_minute, BODIES_PER_MINUTE * settings.max_body_bytes)
    inputs = InputCheck(queue.workers, counters, locations, storage)
    app.state.context = Context(
        settings,
        store,
        queue,
        storage,
        select,
        metrics,
        keyring,
        locations,
        sessions,
        rates,
        inputs,
        SharedCheck(store.probe),
    )
    for router in API_ROUTERS:
        app.include_router(router, dependencies=[Security(API_KEY)])
    for router in PAGE_ROUTERS:
        app.include_router(router)
    problems.install(app)
    describe(app)
    # The last one runs first: a caller without permission is rejected before its body is read.
    app.add_middleware(Bodies, max_bytes=settings.max_body_bytes, rates=rates)
    app.add_middleware(Guard, keyring=keyring, sessions=sessions, rates=rates)
    app.add_middleware(Envelope, answered=RequestMeter(metrics).answered)
    return app


def _with(threads: Sequence[BackgroundService]) -> Lifespan[FastAPI]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        for thread in threads:
            thread.start()
        yield
        for thread in threads:
            await run_in_threadpool(thread.stop)

    return lifespan
