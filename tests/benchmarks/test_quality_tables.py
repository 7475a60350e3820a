"""The tables of docs/quality.md say what the committed trials say."""

import json
import statistics
from pathlib import Path

import pytest

from benchmarks.quality.rules import SHELL
from benchmarks.quality.table import compared, gains, on_split, summary
from benchmarks.quality.tables import by_pool, by_rule, kinds_table, points_table

ROOT = Path(__file__).parents[2]
QUALITY = json.loads((ROOT / "benchmarks/results/quality.json").read_text())
SCOREBOARD = json.loads((ROOT / "benchmarks/results/scoreboard.json").read_text())


def test_the_page_has_the_tables_that_the_committed_rows_give() -> None:
    page = (ROOT / "docs/quality.md").read_text()
    for table in ("\n".join(by_pool(QUALITY["rows"])), *by_rule(QUALITY["rows"])):
        assert table in page


@pytest.mark.parametrize("split", ["explore", "test"])
def test_the_page_has_the_tables_of_the_scoreboard(split: str) -> None:
    page, rows = (ROOT / "docs/quality.md").read_text(), on_split(SCOREBOARD["rows"], split)
    assert "\n".join(points_table(rows)) in page
    assert "\n".join(kinds_table(rows, SHELL)) in page


def test_the_scoreboard_sums_up_its_rows() -> None:
    rows = compared(SCOREBOARD["rows"])
    assert rows == SCOREBOARD["rows"]
    assert summary(rows) == {name: SCOREBOARD[name] for name in summary(rows)}
    assert summary(on_split(rows, "explore")) == SCOREBOARD["explore"]


def test_the_committed_gains_are_those_of_the_committed_proxies() -> None:
    rows = compared(QUALITY["rows"])
    assert rows == QUALITY["rows"]
    mine = [row["above_clip_score"]["mean"] for row in rows if row["rule"] == QUALITY["default"]]
    assert QUALITY["mean_gain_over_clip_score_points"] == pytest.approx(statistics.fmean(mine))
    assert QUALITY["by_rule"] == {rule: gains(rows, rule) for rule in QUALITY["by_rule"]}
