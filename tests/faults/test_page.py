"""docs/reliability.md shows the last results of `make faults`."""

import json
from pathlib import Path
from typing import Any

from tests.faults.__main__ import Found, cells

ROOT = Path(__file__).parents[2]
SEEN: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / "faults.json").read_text())
PAGE = (ROOT / "docs" / "reliability.md").read_text()


def test_the_table_is_that_of_the_last_run() -> None:
    table = PAGE.partition("| fault | tried |")[2].partition("\n\n")[0].splitlines()[2:]
    assert table == [f"| {' | '.join(cells(Found(**found)))} |" for found in SEEN["faults"]]


def test_the_sum_is_told() -> None:
    tried = sum(found["tried"] for found in SEEN["faults"])
    recovered = sum(len(found["seconds"]) for found in SEEN["faults"])
    assert f"{recovered} of {tried} tries: one `make faults` of {SEEN['seconds'] / 60:.0f} minutes" in PAGE
    assert SEEN["environment"]["date"] in PAGE
