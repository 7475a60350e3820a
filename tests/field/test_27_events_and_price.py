"""Issue 18, point 27: an ended job's events have the times of what they report; evaluate says its price first."""

import json

import pytest
from fastapi.testclient import TestClient

from coreset.cli.evaluate import _announce
from coreset.queue.job_store import JobStore
from coreset.spec.job import JobSpec
from tests.service.conftest import SPEC, api, app, succeeded

__all__ = ["api", "app", "succeeded"]


def test_the_last_progress_has_the_time_of_the_end(api: TestClient, store: JobStore, succeeded: str) -> None:
    ended_at = store.get(succeeded).ended_at
    assert ended_at is not None
    lines = api.get(f"/v1/jobs/{succeeded}/events").text.splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    at = [event["at"] for event in events if event["type"] == "progress"]
    assert at == [ended_at.isoformat().replace("+00:00", "Z")]


def test_an_evaluation_says_before_it_starts_how_much_it_trains(capsys: pytest.CaptureFixture[str]) -> None:
    evaluate = {
        "test": {"shards": "/t.tar"},
        "seeds": 2,
        "selections": {"a": {"by": "clip_score"}, "b": {"by": "diffin"}},
    }
    _announce(JobSpec.model_validate({**SPEC, "evaluate": evaluate}))
    assert "trains at most 6 small models on 5 x the pool each" in capsys.readouterr().err.replace("\n", " ")
