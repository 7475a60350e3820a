"""`python -m benchmarks.scale --json OUT`: what grows with a job.

- queue: jobs of 4,096 and 16,384 shards whose scores cost nothing, on a real queue with a real worker.
- workers: 1, 2 and 4 worker processes on shards whose scores take a fixed time; goal: an efficiency of 0.95.
- selection: three tenths of 10 and 100 million rows by the recipe; goal: under 4 GB, exactly k samples. For 100
  million rows have 40 GB of disk free: 9 are parts, the rest is room for what DuckDB spills.

EXPECTED was thought out before the selection was rewritten, and written here afterwards; docs/scaling.md says what had
been measured by then.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.environment import environment
from benchmarks.scale.queue_cost import fixed_scores, free_scores
from benchmarks.scale.selection import measure

EXPECTED = {
    "queue": {"ms_a_shard": 3.0, "commands_a_shard": 40, "redis_bytes_a_shard": 2500},
    "workers": {"efficiency": 0.98},
    "selection": {"10000000": {"seconds": 15, "peak_gb": 2}, "100000000": {"seconds": 200, "peak_gb": 3}},
}
SCORE_SECONDS = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, metavar="OUT", help="what is not measured stays as it is")
    parser.add_argument("--shards", type=int, nargs="*", default=[4096, 16_384])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--fixed-shards", type=int, default=120, help="of the jobs whose scores take a fixed time")
    parser.add_argument("--rows", type=float, nargs="*", default=[1e7, 1e8])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="of all files")
    options = parser.parse_args()
    console = Console()
    result: dict[str, Any] = json.loads(options.json.read_text()) if options.json.exists() else {}
    result |= {"environment": environment(), "expected": EXPECTED}

    def keep(part: str, rows: list[dict[str, Any]]) -> None:
        if rows:
            result[part] = {"load_average": os.getloadavg()[0], "measured": rows}
            options.json.write_text(json.dumps(result, indent=2) + "\n")

    with tempfile.TemporaryDirectory(dir=options.folder, prefix="coreset-scale-") as folder:
        os.environ["TMPDIR"] = folder  # DuckDB's spill, in the processes that select
        for part, work in _work(options, Path(folder)).items():
            rows: list[dict[str, Any]] = []
            for one in work:
                rows.append(one())
                console.print(part, rows[-1])
                keep(part, rows)


def _work(options: argparse.Namespace, folder: Path) -> dict[str, list[Any]]:
    cores = os.cpu_count() or 1
    return {
        "queue": [lambda n=n: free_scores(n, folder) for n in options.shards],
        "workers": [lambda n=n: fixed_scores(n, options.fixed_shards, SCORE_SECONDS, folder) for n in options.workers],
        "selection": [lambda n=n: measure(round(n), folder, cores) for n in options.rows],
    }


if __name__ == "__main__":
    main()
