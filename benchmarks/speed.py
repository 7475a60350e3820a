"""`python -m benchmarks.speed --json OUT`: what a score costs, in plain forward passes of open_clip.

All contenders take the same decoded samples, with a plain pass before and after each: a ratio is that of a contender's
time to the mean of these two, and the figure is the median over the rounds. The weights are open_clip's initial ones.
B's embeddings are computed before, as in a job.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import Contender, Contenders, planned, random_pairs
from benchmarks.environment import environment
from diffin.contrastive import Pairs

MODELS = ("ViT-B-32", "RN50")
LAST_BLOCKS = 2
NAIVE_SAMPLES, GRADIENT_SAMPLES = 1, 4
"""A batch of the two slow ways; their times are counted by the sample."""


def timed(contender: Contender, batch: Pairs) -> float:
    """Return the seconds a sample."""
    _synchronise(batch)
    started = time.perf_counter()
    contender(batch)
    _synchronise(batch)
    return (time.perf_counter() - started) / len(batch)


def _synchronise(batch: Pairs) -> None:
    if batch.ids.device.type == "cuda":
        torch.cuda.synchronize()


def ratios(forward: Contender, batch: Pairs, contender: Contender, few: Pairs, rounds: int) -> dict[str, Any]:
    """Return the ratio of a contender to a plain pass, each per sample, and the forward pass's own seconds."""
    contender(few)  # the first call allocates
    found, passes = [], [timed(forward, batch)]
    for _ in range(rounds):
        seconds = timed(contender, few)
        passes.append(timed(forward, batch))
        found.append(seconds / statistics.mean(passes[-2:]))
    return {"ratio": statistics.median(found), "ratios": found, "forward_s": statistics.median(passes)}


def measure(name: str, batch_size: int, reference_size: int, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure one model on the CPU."""
    device, model = torch.device("cpu"), planned(name)
    whole = Contenders.build(model, device, reference_size)
    batch = random_pairs(whole.model, batch_size, seed=3)
    scoped = Contenders.build(model, device, reference_size, LAST_BLOCKS)
    entries: dict[str, tuple[Callable[[], Contender], Pairs, int]] = {
        "diffin": (lambda: whole.diffin, batch, rounds),
        "diffin_eq9": (lambda: whole.diffin_eq9, batch, rounds),
        f"diffin_last_{LAST_BLOCKS}_blocks": (lambda: scoped.diffin, batch, rounds),
        f"diffin_eq9_last_{LAST_BLOCKS}_blocks": (lambda: scoped.diffin_eq9, batch, rounds),
        "diffin_forward_mode": (lambda: whole.diffin_slope, batch, rounds),
        "vmap_grad": (lambda: whole.per_sample_gradients, batch[:GRADIENT_SAMPLES], rounds),
        "naive": (lambda: whole.naive, batch[:NAIVE_SAMPLES], 1),
    }
    found: dict[str, Any] = {}
    for entry, (make, few, times) in entries.items():
        say(f"{name}: {entry}")
        found[entry] = ratios(whole.forward, batch, make(), few, times)
    flat = {f"{entry}_ratio": value["ratio"] for entry, value in found.items()}
    return {
        "forward_s": statistics.median(value["forward_s"] for value in found.values()),
        **flat,
        "naive_over_diffin": flat["naive_ratio"] / flat["diffin_ratio"],
        "parameters": whole.model.layout.size,
        "parameters_of_the_scope": scoped.model.layout.size,
        "rounds": {entry: value["ratios"] for entry, value in found.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="NAME", help="open_clip architectures")
    parser.add_argument("--batch", type=int, default=16, help="samples of a batch")
    parser.add_argument("--reference", type=int, default=32, help="R; the naive way's cost goes with it")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    console = Console()
    models = {}
    for name in options.models:
        with console.status(name) as status:
            models[name] = measure(name, options.batch, options.reference, options.rounds, status.update)
        show(console, name, models[name])
    settings = {"batch": options.batch, "reference": options.reference, "rounds": options.rounds}
    whole = {"environment": environment(), "settings": settings, "models": models}
    options.json.write_text(json.dumps(whole, indent=2) + "\n")


def show(console: Console, name: str, result: dict[str, Any]) -> None:
    table = Table(
        title=f"{name}: a forward pass takes {1000 * result['forward_s']:.0f} ms a sample", title_justify="left"
    )
    table.add_column("per sample and checkpoint")
    table.add_column("forward passes", justify="right")
    for key, value in result.items():
        if key.endswith("_ratio"):
            table.add_row(key.removesuffix("_ratio"), f"{value:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
