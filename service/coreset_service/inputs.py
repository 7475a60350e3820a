"""Inputs of a spec that the service sees as the workers do: one that is not there is rejected at once.

It decides on local paths if every live worker has its view of the files (one machine, no containers between them), and
on the object store that the results are in, which both reach. All else, and what takes longer than SECONDS, is left to
the worker, which checks everything again.
"""

import asyncio
import fnmatch
import glob
import os
import posixpath
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import islice

import structlog

from coreset.access.file_view import FILE_VIEW, file_view
from coreset.access.locations import Location, Locations
from coreset.errors import CheckpointUnusable, CoresetError, ShardUnreadable
from coreset.queue.worker_census import WorkerCensus
from coreset.redis.counters import Counters
from coreset.spec.job import JobSpec, ValidationTarget
from coreset.spec.shard_uris import expand, patterns_of
from coreset.storage.storage import Storage

SECONDS = 5.0
"""Seconds for one spec."""
THREADS = 4
"""Specs that are examined at a time; a storage that hangs keeps its thread, and further specs are left to workers."""
MAX_LOCAL = 10_000
"""Local shards of a pattern that are examined."""
MAX_REMOTE = 8
"""Objects of a pattern that are asked for."""
MAX_NAMED = 10
OBJECT_STORES = ("s3", "gs")


class InputCheck:
    """Examines the inputs of specs. Make it in the event loop that uses it.

    Args:
        locations: what specs may name; links of local paths are followed and judged again.
        storage: of the results.
    """

    def __init__(self, workers: WorkerCensus, counters: Counters, locations: Locations, storage: Storage) -> None:
        self._workers = workers
        self._counters = counters
        self._locations = locations
        self._storage = storage
        self._free = threading.BoundedSemaphore(THREADS)

    async def left_to_worker(self, spec: JobSpec) -> str | None:
        """Return why some inputs are left to the worker; None if all were examined and are there.

        Raises:
            ShardUnreadable: shards are not there, or a pattern or a folder has none.
            CheckpointUnusable: the run or a checkpoint is not there.
            Unavailable: Redis does not answer.
        """
        if not self._free.acquire(blocking=False):
            return "the service examines other specs"
        deadline = time.monotonic() + SECONDS
        examined = Future[str | None]()

        def examine() -> None:
            examined.set_running_or_notify_cancel()  # so that a caller who no longer waits cannot cancel it
            try:
                examined.set_result(
                    _Examination(self._locations, self._storage, self._sees_files(), deadline).run(spec)
                )
            except Exception as error:
                examined.set_exception(error)
            finally:
                self._free.release()

        threading.Thread(target=examine, daemon=True).start()  # a storage that hangs does not delay the exit
        try:
            return await asyncio.wait_for(asyncio.wrap_future(examined), SECONDS)
        except TimeoutError:
            return f"the storage took longer than {SECONDS:g} s"

    def _sees_files(self) -> bool:
        """Return whether every live worker sees the files that this process sees."""
        own, names = file_view(), self._workers.names()
        reports = self._counters.reports(names)
        return own is not None and bool(names) and all(reports.get(n, {}).get(FILE_VIEW) == own for n in names)


class _Left(Exception):
    """A place that the service cannot judge, with the reason."""


class _Examination:
    def __init__(self, locations: Locations, storage: Storage, sees_files: bool, deadline: float) -> None:
        self._locations = locations
        self._storage = storage
        self._sees_files = sees_files
        self._deadline = deadline

    def run(self, spec: JobSpec) -> str | None:
        left = [self._left(lambda p=pattern: self._require_shards(p)) for pattern in _patterns(spec)]
        left += [self._left(lambda u=uri: self._require_run(u)) for uri in _checkpoints(spec)]
        return next((why for why in left if why), None)

    def _left(self, examine: Callable[[], object]) -> str | None:
        """Examine a place, and return why it was left to the worker, if it was."""
        try:
            examine()
        except _Left as error:
            return str(error)
        except CoresetError:
            raise
        except Exception as error:  # credentials, networks, permissions: workers may have others
            structlog.get_logger("service.inputs").info("input left to the worker", error=repr(error)[:500])
            return f"the service cannot list it ({type(error).__name__})"
        return None

    def _require_shards(self, pattern: str) -> None:
        """Raise ShardUnreadable if one of the first shards of a pattern is not there."""
        missing: list[str] = []
        asked = 0
        for uri in islice(expand(pattern), MAX_LOCAL):
            place = self._locations.check(uri)
            if place.scheme != "file" and asked >= MAX_REMOTE:
                break
            asked += 1
            if (why := self._why_missing(uri, place)) is not None:
                missing.append(f"{uri} ({why})")
            if time.monotonic() > self._deadline:
                break
        if missing:
            more = f" and {len(missing) - MAX_NAMED:,} more" if len(missing) > MAX_NAMED else ""
            raise ShardUnreadable(
                f"{len(missing):,} of {asked:,} shards cannot be opened: {', '.join(missing[:MAX_NAMED])}{more}. Give "
                "paths that the workers can read; a brace range must not reach past the last shard.",
                shards=missing[:MAX_NAMED],
            )

    def _require_run(self, uri: str) -> None:
        place = self._locations.check(uri)
        if place.scheme != "file":
            raise _Left(f"{place.scheme} is read by workers only")
        if not os.path.exists(self._followed(uri, place.path)):
            raise CheckpointUnusable(
                f"{uri} is not there. Give the run's directory (the one with params.txt), or its checkpoint files.",
                uri=uri,
            )

    def _why_missing(self, uri: str, place: Location) -> str | None:
        """Return why there is no shard at a place; None if there is one. Raises _Left."""
        if place.scheme == "file":
            return self._why_missing_here(uri, place.path)
        if place.scheme not in OBJECT_STORES or not self._storage.root.startswith(f"{place.scheme}://"):
            raise _Left(f"{place.scheme}://{place.host} is read by workers only")
        return _why_missing_in_store(uri)

    def _why_missing_here(self, uri: str, path: str) -> str | None:
        real = self._followed(uri, posixpath.dirname(path.split("*", 1)[0]) if "*" in path else path)
        if "*" in path:
            return None if _matches(path) else "matches no file"
        if os.path.isdir(real):
            return None if _matches(posixpath.join(glob.escape(real), "*.tar")) else "a folder without *.tar"
        try:
            os.stat(real)
        except (FileNotFoundError, NotADirectoryError):
            return "not found"
        return None

    def _followed(self, uri: str, path: str) -> str:
        """Return a local path without links. Raises _Left if it leads out of the allowed folders, or is not seen."""
        if not self._sees_files:
            raise _Left(f"{uri} is on the workers' machines, whose files the service does not see")
        real = os.path.realpath(path)
        folders = [prefix.path for prefix in self._locations.allowed if prefix.scheme == "file"]
        roots = [Location("file", "", os.path.realpath(folder or "/")) for folder in folders]
        if self._locations.allowed and not any(root.holds(Location("file", "", real)) for root in roots):
            raise _Left(f"{uri} is a link, which workers judge")
        return real


def _matches(pattern: str) -> bool:
    return next(glob.iglob(pattern, include_hidden=True), None) is not None


def _why_missing_in_store(uri: str) -> str | None:
    folder, name = posixpath.split(uri)
    if "*" in folder:
        raise _Left(f"{uri} has folders with *, which workers list")
    store = Storage(folder)
    if "*" not in name:
        return None if store.exists(name) else "not found"
    return None if fnmatch.filter(store.names(""), name) else "matches no file"


def _patterns(spec: JobSpec) -> Iterator[str]:
    pools = [spec.pool]
    pools += [spec.target.pool] if isinstance(spec.target, ValidationTarget) else []
    for pool in pools:
        yield from patterns_of(pool.shards)
    if spec.evaluate is not None:
        yield from patterns_of(spec.evaluate.test.shards)


def _checkpoints(spec: JobSpec) -> list[str]:
    if spec.checkpoints is None:
        return []
    return [spec.checkpoints.run] if spec.checkpoints.run else [file.uri for file in spec.checkpoints.files or ()]
