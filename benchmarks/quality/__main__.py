"""`python -m benchmarks.quality --data FOLDER --json OUT`: what selections of real pools are worth.

FOLDER holds cifar10/ and flickr8k/. For each pool and scoring run: open_clip's trainer makes five checkpoints on it,
the job that users run scores it, every rule selects at every size, and a small CLIP is trained from scratch on each
selection, with equal samples seen and the same seeds, and tested on samples that are in no other split. A further
scoring run is another cut of pool and V, another training seed and another draw of B. `--pools`, `--runs`, `--rules`,
`--fractions` and `--seeds` choose rows. OUT is written after every row. Rows that it has with all seeds are not
measured again, nor is what the working folder has, so the same command resumes.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.environment import environment
from benchmarks.quality.models import CONFIG
from benchmarks.quality.pools import POOLS
from benchmarks.quality.rules import FRACTIONS, FULL, RULES, ScoredPool
from benchmarks.quality.scored import REFERENCE, TRAINING, VALIDATION, digest_of_run, make_pool
from benchmarks.quality.table import Row, compared, key, on_split, show, summary
from benchmarks.quality.trials import TESTS, Budget, Trial, run_trials, trainers


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.add_argument("--work", type=Path, default=Path("quality-work"), help="keeps pools, scores and trials")
    parser.add_argument("--pools", nargs="+", choices=list(POOLS), default=list(POOLS), metavar="POOL")
    parser.add_argument("--runs", nargs="+", type=int, default=[0, 1], help="scoring runs of each pool")
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES), metavar="RULE")
    parser.add_argument("--fractions", nargs="+", type=float, default=list(FRACTIONS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--processes", type=int, default=2, help="that train proxies, with one thread each")
    parser.add_argument("--device", default="cpu", help="where proxies are trained")
    options = parser.parse_args()
    torch.set_num_threads(1)  # so that scores do not depend on the machine's cores
    console = Console()
    rows: list[Row] = json.loads(options.json.read_text())["rows"] if options.json.exists() else []
    with trainers(options.processes) as processes:
        for run, pool in product(options.runs, options.pools):
            for row in _measured(pool, run, rows, processes, options):
                rows = compared(list(({key(row): row for row in rows} | {key(row): row}).values()))
                _write(options.json, rows, options.device)
                points = {split: round(on_split(compared([row]), split)[0]["points"]["mean"], 1) for split in TESTS}
                console.print(f"{pool}, run {run}, {row['rule']}, {row['fraction']:.0%}: {points}")
    for split in TESTS:
        console.print(f"tested on {split}:")
        show(console, on_split(rows, split))


def _measured(
    pool: str, run: int, rows: Sequence[Row], processes: Executor, options: argparse.Namespace
) -> Iterator[Row]:
    """Yield the rows of a pool and run that are wanted and not yet there, in the order of the rules."""
    budget = Budget.of(pool)
    known = {key(row): row for row in rows if (row["pool"], row["run"]) == (pool, run)}
    wanted: list[Row] = [
        {"pool": pool, "run": run, "rule": name, "fraction": fraction, "samples_seen": budget.samples_seen}
        for name in options.rules
        for fraction in ([1.0] if name == FULL else options.fractions)
    ]
    seeds = {key(row): set(options.seeds) | set(known.get(key(row), {}).get("seeds", [])) for row in [*wanted, *rows]}
    missing = [row for row in wanted if seeds[key(row)] > set(known.get(key(row), {}).get("seeds", []))]
    if not missing:
        return
    folder = options.work / (f"{pool}.{run}" if run else pool)
    make_pool(lambda: POOLS[pool](options.data, run), folder, run)
    trained = digest_of_run(folder)
    if any(row["trained"] != trained for row in known.values()):  # rows of two trainings cannot be compared
        missing = list({key(row): row for row in [*known.values(), *wanted]}.values())
    faults: dict[str, str] = json.loads((folder / "pool" / "faults.json").read_text())
    scored = ScoredPool(folder, run)
    for row in missing:
        uids = scored.chosen(RULES[row["rule"]], row["fraction"])
        trials = [Trial(folder.name, uids, seed, budget) for seed in sorted(seeds[key(row)])]
        found = run_trials(trials, options.work, processes, options.device)
        yield row | {
            "k": len(uids),
            "faulty": round(sum(uid in faults for uid in uids) / len(uids), 4),
            "trained": trained,
            "seeds": [trial.seed for trial in trials],
            "proxies": [found[trial]["test"].model_dump() for trial in trials],
            "explore": [found[trial]["explore"].model_dump() for trial in trials],
        }


def _write(path: Path, rows: Sequence[Row], device: str) -> None:
    settings: dict[str, Any] = {"batch_size": Budget().batch_size, "lr": Budget().lr, "model": CONFIG}
    settings |= {"training": TRAINING, "reference": REFERENCE, "validation": VALIDATION}
    used = {row["rule"] for row in rows}
    settings |= {"rules": {name: asdict(rule) for name, rule in RULES.items() if name in used}}
    found = summary(rows) | {"explore": summary(on_split(rows, "explore")), "environment": environment(device)}
    path.write_text(json.dumps(found | {"settings": settings, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
