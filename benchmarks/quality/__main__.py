"""`python -m benchmarks.quality --data FOLDER --json OUT`: what selections of real pools are worth.

FOLDER holds cifar10/ and flickr8k/. For each pool: open_clip's trainer makes five checkpoints on it, the job that users
run scores it, every rule selects at every share, and a small CLIP is trained from scratch on each selection, with equal
samples seen and the same seeds, and tested on samples that are in no other split. `--pools`, `--rules`, `--fractions`
repeat single rows; what the working folder has is not made again.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks.environment import environment
from benchmarks.quality.models import CONFIG
from benchmarks.quality.pools import POOLS
from benchmarks.quality.rules import FRACTIONS, FULL, RULES, chosen
from benchmarks.quality.scored import REFERENCE, TRAINING, VALIDATION, make_pool, score
from benchmarks.quality.table import Cut, rows, show, summary
from benchmarks.quality.trials import Budget, Trial, run_trials
from coreset.evaluation import Quality


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.add_argument("--work", type=Path, default=Path("quality-work"), help="keeps pools, scores and trials")
    parser.add_argument("--pools", nargs="+", choices=list(POOLS), default=list(POOLS))
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES))
    parser.add_argument("--fractions", nargs="+", type=float, default=list(FRACTIONS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--split", choices=["explore", "test"], default="test", help="which samples to test on")
    parser.add_argument("--processes", type=int, default=2, help="that train proxies, with one thread each")
    options = parser.parse_args()
    torch.set_num_threads(1)  # so that scores do not depend on the machine's cores
    console = Console()
    cuts: list[Cut] = []
    for pool in options.pools:
        console.print(f"{pool}: training and scoring")
        cuts += _cuts(pool, options)
    measured = rows(_trained(cuts, options))
    settings = {"tested_on": options.split, "seeds": options.seeds, "budget": asdict(Budget()), "model": CONFIG}
    settings |= {"training": TRAINING, "reference": REFERENCE, "validation": VALIDATION}
    settings |= {"rules": {name: asdict(rule) for name, rule in RULES.items()}}
    found = summary(measured) | {"environment": environment(), "settings": settings, "cuts": measured}
    options.json.write_text(json.dumps(found, indent=1) + "\n")
    show(console, measured)
    console.print({name: value for name, value in found.items() if name.endswith("_points")})


def _cuts(pool: str, options: argparse.Namespace) -> list[Cut]:
    """Return what each rule keeps of a pool at each size; rules whose target the pool has no use for have none."""
    folder = make_pool(pool, options.data, options.work)
    faults: dict[str, str] = json.loads((folder / "pool" / "faults.json").read_text())
    scored = {target: score(folder, target) for target in sorted({RULES[name].target for name in options.rules})}
    found: list[Cut] = []
    for name in options.rules:
        fractions = [1.0] if name == FULL else options.fractions
        for fraction in fractions:
            uids = chosen(scored[RULES[name].target], RULES[name], fraction)
            found.append(Cut(pool, name, fraction, uids, sum(uid in faults for uid in uids) / len(uids)))
    return found


def _trained(cuts: Sequence[Cut], options: argparse.Namespace) -> dict[Cut, list[Quality]]:
    """Return the quality of each cut's proxies, by seed."""
    trials = {cut: [Trial(cut.pool, cut.uids, seed) for seed in options.seeds] for cut in cuts}
    every = [trial for of_cut in trials.values() for trial in of_cut]
    with Progress() as progress:
        bar = progress.add_task("training proxies", total=len(every))
        found = run_trials(
            every, Budget(), options.work, options.processes, lambda done, total: progress.update(bar, completed=done, total=total)
        )
    return {cut: [found[trial][options.split] for trial in of_cut] for cut, of_cut in trials.items()}


if __name__ == "__main__":
    main()
