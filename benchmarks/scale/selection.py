"""Selection over a large pool: seconds, the process's peak memory, and whether it is the right k samples.

`python -m benchmarks.scale.selection ROOT SHARDS [sql]` selects from parts that are there (`parts.write_parts`).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scale.parts import ROWS, good_rows, plan_of, write_parts
from coreset.spec.selection import SelectSpec
from coreset.storage.storage import Storage

FRACTION = 0.3
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
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _checked(subset: np.ndarray, found: dict[str, Any], rows: int) -> dict[str, Any]:
    halves = subset.view("u8").reshape(-1, 2)
    high, low = halves[:, 0], halves[:, 1]
    ascending = (high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1]))
    checks: dict[str, Any] = {"exact_k": len(subset) == found["k"], "sorted_and_unique": bool(ascending.all())}
    if rows <= CHECKED_ROWS:
        checks["same_as_numpy"] = np.array_equal(halves, expected(rows // ROWS, found["k"]))
    return checks


def expected(shards: int, k: int) -> np.ndarray:
    """Return the (k, 2) sorted halves of the right selection, the recipe's with V = training, by numpy alone."""
    rows = list(good_rows(shards))
    halves, diffin, clip_score, cluster, caption = (
        np.concatenate([each[name] for each in rows])
        for name in ("halves", "diffin", "clip_score", "cluster", "caption")
    )
    value = (_ranks(diffin, 0.5) / max(1, len(diffin) - 1) + _ranks_within(clip_score, cluster)) / 2
    order = np.lexsort((halves[:, 1], halves[:, 0], -value))
    _, first = np.unique(halves[order].view("u8,u8"), return_index=True)
    order = order[np.sort(first)]  # of rows with one uid the best
    copy = _nth(caption[order])
    order = order[np.argsort(copy, kind="stable")]
    copy.sort(kind="stable")
    sizes = np.bincount(cluster[order])[cluster[order]]
    place = (_nth(cluster[order]) - 0.5) / (sizes / len(order))
    kept = halves[order[np.lexsort((halves[order, 1], halves[order, 0], -value[order], copy, place))[:k]]]
    return kept[np.lexsort((kept[:, 1], kept[:, 0]))]


def _ranks(values: np.ndarray, ties: float) -> np.ndarray:
    """Return how many are lower, and the half of those that are equal, less `ties`."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    return (below + counts / 2 - ties)[inverse]


def _ranks_within(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    found = np.empty(len(values))
    for group in np.unique(groups):
        members = groups == group
        found[members] = _ranks(values[members], 0.0) / members.sum()
    return found


def _nth(labels: np.ndarray) -> np.ndarray:
    """Return each one's place, from 1, among those of its label, in their order."""
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    places = np.empty(len(labels), np.int64)
    places[order] = np.arange(len(labels)) - np.repeat(starts, counts) + 1
    return places


def main(root: str, shards: int, way: str = "columns") -> None:
    """Select, by columns or by SQL, and print what it took."""
    from benchmarks.scale.memory import peak_bytes
    from coreset.selection.large import run
    from coreset.selection.select import select

    if way == "sql":
        run.LARGE_POOL = sys.maxsize
    storage, plan = Storage(root), plan_of(shards)
    before, started, worked = peak_bytes(), time.monotonic(), time.process_time()
    selection = select(storage, plan, f"job-{way}", SelectSpec(fraction=FRACTION, recipe="target_balanced"))
    found = {
        "way": way,
        "k": selection.k,
        "rankable": selection.rankable,
        "duplicates": selection.duplicates,
        "seconds": round(time.monotonic() - started, 1),
        "processor_seconds": round(time.process_time() - worked, 1),
        "peak_bytes": peak_bytes(),
        "bytes_before": before,
        "load_average": os.getloadavg()[0],
        "sha256": {name: file.sha256 for name, file in selection.files.items()},
        "subset": selection.files["subset.npy"].uri,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
