"""`python -m benchmarks.quality --data FOLDER --json OUT`: what selections of real pools are worth.

FOLDER holds cifar10/ and flickr8k/. For each pool: open_clip's trainer makes five checkpoints on it, the job that users
run scores it, every rule selects at every size, and a small CLIP is trained from scratch on each selection, with equal
samples seen and the same seeds, and tested on samples that are in no other split. `--pools`, `--rules`, `--fractions`
and `--seeds` repeat single rows: rows of OUT that are not measured stay as they are, and what the working folder has is
not made again.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks.environment import environment
from benchmarks.quality.models import CONFIG
from benchmarks.quality.pools import POOLS
from benchmarks.quality.rules import FRACTIONS, FULL, RULES, chosen
from benchmarks.quality.scored import REFERENCE, TRAINING, VALIDATION, make_pool, score
from benchmarks.quality.table import Row, compared, key, show, summary
from benchmarks.quality.trials import Budget, Trial, run_trials


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.add_argument("--work", type=Path, default=Path("quality-work"), help="keeps pools, scores and trials")
    parser.add_argument("--pools", nargs="+", choices=list(POOLS), default=list(POOLS), metavar="POOL")
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES), metavar="RULE")
    parser.add_argument("--fractions", nargs="+", type=float, default=list(FRACTIONS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--split", choices=["explore", "test"], default="test", help="the samples to test on")
    parser.add_argument("--processes", type=int, default=2, help="that train proxies, with one thread each")
    options = parser.parse_args()
    torch.set_num_threads(1)  # so that scores do not depend on the machine's cores
    console = Console()
    rows: list[Row] = []
    for pool in options.pools:
        console.print(f"{pool}: training and scoring, where that is not done")
        rows += _selected(pool, options)
    _train(rows, options)
    known = json.loads(options.json.read_text())["rows"] if options.json.exists() else []
    merged = compared(list({key(row): row for row in [*known, *rows]}.values()))
    settings: dict[str, Any] = {"tested_on": options.split, "budget": asdict(Budget()), "model": CONFIG}
    settings |= {"training": TRAINING, "reference": REFERENCE, "validation": VALIDATION}
    settings |= {"rules": {name: asdict(rule) for name, rule in RULES.items()}}
    found = summary(merged) | {"environment": environment(), "settings": settings, "rows": merged}
    options.json.write_text(json.dumps(found, indent=1) + "\n")
    show(console, merged)
    console.print({name: value for name, value in found.items() if name.endswith("_points")})


def _selected(pool: str, options: argparse.Namespace) -> list[Row]:
    """Return what each rule keeps of a pool at each size, with its uids; the full pool has one size."""
    folder = options.work / pool
    make_pool(lambda: POOLS[pool](options.data), folder)
    faults: dict[str, str] = json.loads((folder / "pool" / "faults.json").read_text())
    scored = {target: score(folder, target) for target in sorted({RULES[name].target for name in options.rules})}
    rows: list[Row] = []
    for name in options.rules:
        for fraction in [1.0] if name == FULL else options.fractions:
            uids = chosen(scored[RULES[name].target], RULES[name], fraction)
            faulty = round(sum(uid in faults for uid in uids) / len(uids), 4)
            rows.append(
                {"pool": pool, "rule": name, "fraction": fraction, "k": len(uids), "faulty": faulty, "uids": uids}
            )
    return rows


def _train(rows: Sequence[Row], options: argparse.Namespace) -> None:
    """Put in place of each row's uids the quality of its proxies, by seed."""
    trials = [[Trial(row["pool"], row["uids"], seed) for seed in options.seeds] for row in rows]
    every = [trial for of_row in trials for trial in of_row]
    with Progress() as progress:
        bar = progress.add_task("training proxies", total=len(every))

        def tell(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        found = run_trials(every, Budget(), options.work, options.processes, tell)
    for row, of_row in zip(rows, trials, strict=True):
        del row["uids"]
        row |= {"seeds": options.seeds, "proxies": [found[trial][options.split].model_dump() for trial in of_row]}


if __name__ == "__main__":
    main()
