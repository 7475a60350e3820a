"""Point 7: a short pattern of millions of shards must cost nothing, and one caller's costly work its own turns only."""

import tracemalloc
from itertools import islice

import anyio
import pytest
from braceexpand import braceexpand
from hypothesis import given
from hypothesis import strategies as st

from coreset.access import locations
from coreset.access.locations import Locations
from coreset.errors import CoresetError, LocationForbidden, ShardUnreadable, TooManyRequests
from coreset.spec.job import JobSpec
from coreset.spec.shard_uris import expand, patterns_of
from coreset_service.http import limits
from coreset_service.http.limits import Costly, Rates

PIECES = ["{", "}", ",", "..", "1", "07", "-2", "a", "\\", "{0..3}", "{01..10..4}", "{a,b}", "x", "/"]


def spec(*shards: str) -> JobSpec:
    return JobSpec.model_validate(
        {"pool": {"shards": list(shards)}, "checkpoints": {"run": "/logs"}, "select": {"fraction": 0.5}}
    )


def passes(uri: str, allowed: str) -> bool:
    try:
        Locations.parse(allowed).check(uri)
    except CoresetError:
        return False
    return True


def checks(monkeypatch: pytest.MonkeyPatch, *shards: str, allowed: str = "") -> int:
    """Return how many URIs the check of a spec judges."""
    judged: list[str] = []
    located = locations.located
    monkeypatch.setattr(locations, "located", lambda uri: (judged.append(uri), located(uri))[1])
    Locations.parse(allowed).check_spec(spec(*shards))
    return len(judged)


@pytest.mark.parametrize("shard", ["/pool/{0..3999990}.tar", "s3://b/{a,b}/{0..999999}.tar", "/p/{0..99}/{0..9999}"])
def test_a_range_below_a_folder_is_judged_once(monkeypatch: pytest.MonkeyPatch, shard: str) -> None:
    tracemalloc.start()
    try:
        assert checks(monkeypatch, shard) < 10
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_the_first_of_four_million_costs_no_more_than_itself() -> None:
    tracemalloc.start()
    try:
        assert list(islice(expand("/pool/{0..3999990}.tar"), 2)) == ["/pool/0.tar", "/pool/1.tar"]
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_the_expansion_is_the_shells(pattern: str) -> None:
    try:
        expected = list(braceexpand(pattern))
    except ValueError:
        with pytest.raises(ShardUnreadable):
            list(expand(pattern))
        return
    assert list(expand(pattern)) == expected


@pytest.mark.parametrize(
    "shard",
    [
        "http://10.0.0.{1..9}/x.tar",
        "http://{8..10}.0.0.1/x.tar",
        "/pool/{a,..}/x.tar",
        "/pool/.{.,a}/x.tar",
        "/p{1..2}/x.tar",
        "/{pool,etc}/{0..9}.tar",
        "http://example.org/%{24..25}2e%2e/x.tar",
        "{a,http}://10.0.0.1/{0..9}.tar",
    ],
)
def test_no_pattern_hides_a_place_that_its_uris_may_not_be(shard: str) -> None:
    allowed = "" if "://" in shard else "/pool,/logs"
    assert not all(passes(uri, allowed) for uri in braceexpand(shard))
    with pytest.raises(LocationForbidden):
        Locations.parse(allowed).check_spec(spec(shard))


@pytest.mark.parametrize(
    "shard",
    [
        "/p/" + "{a,b}" * 16,
        "/p" + "{0..9999}" * 2 + "/x.tar",
        "/p/" + "{1..1}" * 600,
        "/p/" + "{a..z}" * 20,
        "{" + "9" * 4000,
        "{" * 2000,
        "{0..99999999999999999999}",
        "/p/{a,{0..3999990}}",
    ],
)
def test_what_would_cost_much_is_refused_before_it_does(monkeypatch: pytest.MonkeyPatch, shard: str) -> None:
    with pytest.raises(ShardUnreadable) as refused:
        checks(monkeypatch, shard, allowed="/p,/logs")
    assert len(refused.value.detail) < 600


def test_a_pool_has_a_largest_number_of_shards() -> None:
    assert patterns_of(["/p/{0..3999999}"]) == ["/p/{0..3999999}"]
    with pytest.raises(ShardUnreadable, match="4,000,001 shards, 4,000,000 are allowed"):
        patterns_of(["/p/{0..3999999}::/p/x"])


def test_costly_work_of_one_caller_leaves_turns_for_others() -> None:
    async def main() -> None:
        costly, running, most, blocked = Costly(), {"a": 0, "b": 0}, {"a": 0, "b": 0}, anyio.Event()

        async def work(caller: str) -> None:
            async with costly.turn(caller):
                running[caller] += 1
                most[caller] = max(most[caller], running[caller])
                await blocked.wait()
                running[caller] -= 1

        async with anyio.create_task_group() as group:
            for _ in range(limits.COSTLY_OF_ONE + limits.COSTLY_WAITING):
                group.start_soon(work, "a")
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(TooManyRequests):
                await work("a")
            group.start_soon(work, "b")
            await anyio.wait_all_tasks_blocked()
            assert (running["a"], running["b"]) == (limits.COSTLY_OF_ONE, 1)
            blocked.set()
        assert most["a"] == limits.COSTLY_OF_ONE

    anyio.run(main)


def test_a_callers_bytes_are_counted_by_the_minute() -> None:
    rates = Rates(requests=10, body_bytes=1000)
    rates.count_bytes("a", 900)
    with pytest.raises(TooManyRequests, match="bytes of request bodies"):
        rates.count_bytes("a", 200)
    rates.count_bytes("b", 900)
