"""The tables of docs/quality.md say what the committed trials say."""

import json
import statistics
from pathlib import Path

import pytest

from benchmarks.quality.table import compared, gains
from benchmarks.quality.tables import by_pool, by_rule

ROOT = Path(__file__).parents[2]
QUALITY = json.loads((ROOT / "benchmarks/results/quality.json").read_text())


def test_the_page_has_the_tables_that_the_committed_rows_give() -> None:
    page = (ROOT / "docs/quality.md").read_text()
    for table in ("\n".join(by_pool(QUALITY["rows"])), *by_rule(QUALITY["rows"])):
        assert table in page


def test_the_committed_gains_are_those_of_the_committed_proxies() -> None:
    rows = compared(QUALITY["rows"])
    assert rows == QUALITY["rows"]
    mine = [row["above_clip_score"]["mean"] for row in rows if row["rule"] == QUALITY["default"]]
    assert QUALITY["mean_gain_over_clip_score_points"] == pytest.approx(statistics.fmean(mine))
    assert QUALITY["by_rule"] == {rule: gains(rows, rule) for rule in QUALITY["by_rule"]}
