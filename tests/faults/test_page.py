"""docs/reliability.md tells what `make faults` saw last."""

import json
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SEEN: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / "faults.json").read_text())
PAGE = (ROOT / "docs" / "reliability.md").read_text()


def row(found: dict[str, Any]) -> str:
    seconds = found["seconds"]
    cells = [found["name"], found["tried"], len(seconds), f"{statistics.median(seconds):.1f}", f"{max(seconds):.1f}"]
    return f"| {' | '.join(map(str, [*cells, found['meaning']]))} |"


def test_the_table_is_that_of_the_last_run() -> None:
    table = PAGE.partition("| fault | tried |")[2].partition("\n\n")[0].splitlines()[2:]
    assert table == [row(found) for found in SEEN["faults"]]


def test_the_sum_is_told() -> None:
    tried = sum(found["tried"] for found in SEEN["faults"])
    recovered = sum(len(found["seconds"]) for found in SEEN["faults"])
    assert f"{recovered} of {tried} tries: one `make faults` of {SEEN['seconds'] / 60:.0f} minutes" in PAGE
    assert SEEN["environment"]["date"] in PAGE
