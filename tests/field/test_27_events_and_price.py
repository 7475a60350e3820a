"""Issue 18, point 27: an ended job's events have the times of what they report; evaluate says its price first."""

import json
import threading

import pytest
from fastapi.testclient import TestClient

from coreset.cli import progress_bars
from coreset.cli.evaluate import _announce
from coreset.queue.job_store import JobStore
from coreset.selection.trial_plan import plan_trials
from coreset.spec.equal_rules import canonical
from coreset.spec.evaluation import default_rules
from coreset.spec.job import JobSpec
from coreset.spec.scores import Score
from coreset.spec.selection import Rule
from tests.coreset.selections import plan_of
from tests.coreset.spec.test_evaluation import WORLD, selection_of
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


EQUAL = {
    "a": {"by": "diffin"},
    "b": {"by": {"diffin": 2}},
    "c": {"by": {"diffin": 5}, "combine": "union"},
    "d": {"by": {"clip_score": 0.3, "diffin": 0.7}},
    "e": {"by": {"diffin": 7, "clip_score": 3}},
    "f": {"by": {"clip_score": 1, "diffin": 1}, "combine": "intersection"},
    "g": {"by": {"diffin": 4, "clip_score": 9}, "combine": "intersection"},
    "h": {"by": "diffin", "filters": {"cluster": {"any_of": [2, 1]}, "clip_score": {"min": 0}}},
    "i": {"by": "diffin", "filters": {"clip_score": {"min": 0}, "cluster": {"any_of": [1, 2]}}},
}
OTHERS = {
    "z": {"by": {"diffin": -1}},
    "y": {"by": {"diffin": 7, "clip_score": 2}},
    "x": {"by": {"diffin": 1, "clip_score": 1}, "combine": "union"},
    "w": {"by": {"diffin": 1, "clip_score": -1}, "combine": "intersection"},
    "v": {"by": "diffin", "filters": {"clip_score": {"min": 0.1}, "cluster": {"any_of": [1, 2]}}},
    "u": {"recipe": "target_balanced"},
    "t": {"by": {"diffin": 1, "clip_score": 1}},
}


def test_equal_rules_that_are_written_differently_are_priced_and_trained_once() -> None:
    evaluate = {"test": {"shards": "/t.tar"}, "seeds": 2, "selections": EQUAL | OTHERS}
    spec = JobSpec.model_validate({**SPEC, "evaluate": evaluate})
    assert spec.evaluate is not None
    distinct = 4 + len(OTHERS)
    assert spec.evaluate.number_of_trials(spec.select.rule, spec.scores) == 2 * (1 + distinct)
    plan = plan_of(1, scores=spec.scores)
    trials = plan_trials(spec.evaluate, plan, WORLD, selection_of(spec, plan, 30), 100, [])
    assert len(trials.all) == 2 * (1 + distinct)
    keys = {cut.selection: trials.trial(cut, 0).key(trials.setup) for cut in trials.cuts}
    assert [keys["a"]] * 2 == [keys["b"], keys["c"]]
    assert (keys["d"], keys["f"], keys["h"]) == (keys["e"], keys["g"], keys["i"])


def test_a_rule_that_is_written_as_all_are_keeps_its_outcomes() -> None:
    for rule in default_rules(Rule(by={Score.LOSS: 1.0}), list(Score)).values():
        assert canonical(rule).model_dump_json() == rule.model_dump_json()


def test_forget_prints_a_line_while_a_stage_lasts_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[tuple[str, float]] = []
    third = threading.Event()

    def add(stage: str, share: float) -> None:
        lines.append((stage, share))
        if len(lines) >= 3:
            third.set()

    monkeypatch.setattr(progress_bars, "_print_stage", add)
    with progress_bars.stage_lines(seconds=0.001) as update:
        update("tracing", 0.2)
        assert third.wait(30)
    assert set(lines) == {("tracing", 0.2)}


def test_forget_says_its_stages_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars.stage_progress() as update:
        update("drawing", 0.0)
        update("drawing", 0.1)
        update("tracing", 0.25)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == ["0% drawing", "25% tracing"]
