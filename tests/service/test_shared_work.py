"""Work that callers share: the write check of /readyz, and the counts by group."""

import pytest
from fastapi.testclient import TestClient

from coreset.errors import Unavailable
from coreset.queue.job_store import JobStore
from coreset.schemas.group_counts import GroupCounts
from coreset_service import score_tables
from coreset_service.score_tables import MAX_GROUP_COUNTS
from coreset_service.shared_check import SECONDS, SharedCheck


def test_readyz_writes_to_redis_once_for_many_callers(
    api: TestClient, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counter of Redis's own, so that no other write is overlooked."""
    redis = store.removals._redis
    before = redis.info("commandstats").get("cmdstat_set", {"calls": 0})["calls"]
    for _ in range(5):
        assert api.get("/readyz").status_code == 200
    assert redis.info("commandstats")["cmdstat_set"]["calls"] - before <= 2, "one, two on a machine that stands still"


def test_a_success_counts_for_some_seconds_and_a_failure_is_checked_again() -> None:
    clock, calls, broken = [0.0], list[float](), [False]

    def check() -> None:
        calls.append(clock[0])
        if broken[0]:
            raise Unavailable("Redis takes no writes")

    shared = SharedCheck(check, now=lambda: clock[0])
    shared()
    clock[0] = SECONDS - 0.1
    broken[0] = True
    shared()
    assert calls == [0.0]
    clock[0] = SECONDS
    for _ in range(2):
        with pytest.raises(Unavailable):
            shared()
    broken[0] = False
    shared()
    assert calls == [0.0, SECONDS, SECONDS, SECONDS]


def test_groups_are_counted_once_per_job_and_field(
    api: TestClient, succeeded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []

    def count(storage: object, plan: object, selection: object, field: str) -> GroupCounts:
        counted.append(field)
        return GroupCounts(field=field, fields=[field], total=0, groups=[])

    monkeypatch.setattr(score_tables, "group_counts", count)
    monkeypatch.setattr(score_tables, "load_result", lambda storage, job_id: (FakeManifest, None))
    for _ in range(3):
        assert api.get(f"/v1/jobs/{succeeded}/groups?field=shard").status_code == 200
    assert counted == ["shard"]
    for number in range(MAX_GROUP_COUNTS):
        api.get(f"/v1/jobs/{succeeded}/groups?field=f{number}")
    api.get(f"/v1/jobs/{succeeded}/groups?field=shard")
    assert counted.count("shard") == 2, "the least recently used one was dropped"
    assert api.delete(f"/v1/jobs/{succeeded}").status_code == 204
    assert api.get(f"/v1/jobs/{succeeded}/groups?field=shard").status_code == 404


class FakeManifest:
    selection = None
