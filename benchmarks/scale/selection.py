"""Selection over a large pool: seconds, the process's peak memory, and whether it is the right k samples."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scale.parts import ROWS, good_rows, plan_of, write_parts
from coreset.scores import Score
from coreset.spec import SelectSpec
from coreset.storage import Storage

FRACTION = 0.3
BY = {Score.DIFFIN: 1.0, Score.CLIP_SCORE: 1.0}
CHECKED_ROWS = 10_000_000
"""Up to so many rows the selection is compared with one that numpy makes in memory."""


def measure(rows: int, folder: Path, processes: int) -> dict[str, Any]:
    """Write parts of so many rows below `folder`, select from them in a process of its own, and delete them."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="coreset-scale-") as root:
        storage = Storage(root)
        started = time.monotonic()
        plan = write_parts(storage, rows // ROWS, processes)
        wrote = time.monotonic() - started
        found = _in_its_own_process(root, rows // ROWS)
        subset = np.load(found.pop("subset"))
        assert plan.id == plan_of(rows // ROWS).id
        return {
            "rows": rows,
            "parts": rows // ROWS,
            "bytes_of_parts": sum(f.stat().st_size for f in Path(root).glob("plans/*/parts/*.parquet")),
            "writing_seconds": round(wrote, 1),
            **found,
            **_checked(subset, found, rows),
        }


def _in_its_own_process(root: str, shards: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scale.selection", root, str(shards)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _checked(subset: np.ndarray, found: dict[str, Any], rows: int) -> dict[str, Any]:
    halves = subset.view("u8").reshape(-1, 2)
    high, low = halves[:, 0], halves[:, 1]
    ascending = (high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1]))
    checks: dict[str, Any] = {"exact_k": len(subset) == found["k"], "sorted_and_unique": bool(ascending.all())}
    if rows <= CHECKED_ROWS:
        checks["same_as_numpy"] = np.array_equal(halves, expected(rows // ROWS, found["k"]))
    return checks


def expected(shards: int, k: int) -> np.ndarray:
    """Return the (k, 2) sorted halves of the right selection, by numpy alone."""
    columns = list(good_rows(shards))
    halves = np.concatenate([c["halves"] for c in columns])
    ranks = [weight * _mean_ranks(np.concatenate([c[score] for c in columns])) for score, weight in BY.items()]
    value = np.sum(ranks, axis=0)
    order = np.lexsort((halves[:, 1], halves[:, 0], -value))
    _, first = np.unique(halves[order].view("u8,u8"), return_index=True)
    kept = halves[order[np.sort(first)[:k]]]
    return kept[np.lexsort((kept[:, 1], kept[:, 0]))]


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    return (below + (counts - 1) / 2)[inverse] / max(1, len(values) - 1)


def main(root: str, shards: int) -> None:
    """Select, and print what it took."""
    from benchmarks.scale.memory import peak_bytes
    from coreset.select import select

    storage, plan = Storage(root), plan_of(shards)
    before, started = peak_bytes(), time.monotonic()
    selection = select(storage, plan, "job", SelectSpec(fraction=FRACTION, by=BY))
    found = {
        "k": selection.k,
        "rankable": selection.rankable,
        "duplicates": selection.duplicates,
        "seconds": round(time.monotonic() - started, 1),
        "peak_bytes": peak_bytes(),
        "bytes_before": before,
        "subset": selection.files["subset.npy"].uri,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
