"""A worker's time by activity: all of it, counted once, under the right activity."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from coreset.redis.counters import Counters
from coreset_workers.process.activity import DOING, Activity
from coreset_workers.process.metrics_exporter import MetricsExporter


class Time:
    """A clock that stands still but for `pass_`."""

    now = 0.0

    def pass_(self, seconds: float) -> None:
        self.now += seconds


STEPS = st.lists(st.tuples(st.sampled_from(DOING), st.floats(0, 1e6), st.booleans()))


@given(steps=STEPS)
def test_all_of_the_time_is_told_whatever_is_done(steps: list[tuple[str, float, bool]]) -> None:
    clock = Time()
    activity = Activity(lambda: clock.now)
    expected = dict.fromkeys(DOING, 0.0)
    for what, seconds, look in steps:
        with activity.doing(what):
            clock.pass_(seconds)
            if look:
                activity.seconds()
        expected[what] += seconds
    assert activity.seconds() == pytest.approx(expected, abs=1e-6)  # a clock of up to 1e6 s has 1e-10 s of round-off


def test_what_was_done_before_goes_on_after_and_an_error_changes_nothing() -> None:
    clock = Time()
    activity = Activity(lambda: clock.now)

    def fail_in_the_model() -> None:
        with activity.doing("other"):
            clock.pass_(1)
            with activity.doing("model"):
                clock.pass_(2)
                raise ValueError("model")

    with pytest.raises(ValueError, match="model"):
        fail_in_the_model()
    clock.pass_(4)
    assert activity.seconds() == {"idle": 4, "data": 0, "model": 2, "other": 1}


def test_only_the_wait_for_an_item_is_waiting_for_data() -> None:
    clock = Time()
    activity = Activity(lambda: clock.now)

    def slow_items():
        for item in range(3):
            clock.pass_(10)
            yield item

    with activity.doing("other"):
        for _ in activity.waiting(slow_items()):
            clock.pass_(1)
    assert activity.seconds() == {"idle": 0, "data": 30, "model": 0, "other": 3}


def test_reports_add_up_to_the_time_of_the_worker(redis: Redis) -> None:
    totals, activity = Counters(redis), Activity()
    started = time.monotonic()
    with MetricsExporter(totals, activity, "w1", lambda: {"gpu": "none"}) as reporter:
        with activity.doing("model"):
            reporter.report()
        reporter.report()
    lasted = time.monotonic() - started
    reported = {field: value for field, value in totals.read().items() if field.startswith("worker_seconds:")}
    assert set(reported) == {f"worker_seconds:{what}" for what in DOING}
    assert sum(reported.values()) == pytest.approx(sum(activity.seconds().values()), abs=0.5)
    assert 0 < sum(reported.values()) <= lasted + 0.5
    assert totals.reports(["w1", "w2"]) == {"w1": {"gpu": "none"}}
