"""`python -m benchmarks.gpu --json OUT`: what diffin costs on a GPU, in each precision, compiled or not.

A ratio is the time of one checkpoint's diffin to that of a plain bfloat16 pass of the same samples, eager, measured
beside it. Accuracy is what the gate looks at, against forward mode in float64.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contenders import Contender, Contenders, planned, random_pairs
from benchmarks.environment import environment
from benchmarks.speed import timed
from coreset.schemas.plan import PlannedModel
from coreset_workers.model.precision import PRECISIONS
from diffin.accuracy import agreement
from diffin.contrastive import Pairs

MODELS = ("ViT-B-32", "ViT-L-14")
WARM_UP = 3
MATRIX = 8192
"""Side of the square matrices whose product measures the rate that the card reaches."""


@dataclass(frozen=True)
class Way:
    """One way to compute diffin: a rung of the ladder, eager or compiled."""

    precision: str
    compiled: bool

    @property
    def name(self) -> str:
        return self.precision + (", compiled" if self.compiled else "")


WAYS = [Way(name, compiled) for name in ("float32", "tf32", "bfloat16") for compiled in (False, True)]


def contender(model: PlannedModel, device: torch.device, way: Way, reference_size: int, backend: str) -> Contender:
    """Return diffin of one checkpoint in this way."""
    precision = PRECISIONS[way.precision]
    built = Contenders.build(model, device, reference_size, dtype=precision.dtype)
    run = built.diffin_slope if precision.slopes else built.diffin
    run = torch.compile(run, backend=backend) if way.compiled else run

    def score(batch: Pairs) -> torch.Tensor:
        with precision.kernels():
            return run(batch)

    return score


def measure(
    model: PlannedModel, device: torch.device, batch_size: int, reference_size: int, rounds: int, backend: str
) -> dict[str, Any]:
    """Measure one model: a row for each way, and the plain pass."""
    plain = Contenders.build(model, device, 8, dtype=torch.bfloat16)
    batch = random_pairs(plain.model, batch_size, seed=3)
    exact = Contenders.build(model, device, reference_size, dtype=torch.float64).diffin_slope(batch)
    flops, rows = _flops(plain.forward, batch), {}
    for way in WAYS:
        run = contender(model, device, way, reference_size, backend)
        for _ in range(WARM_UP):
            run(batch)
            plain.forward(batch)
        pairs = list(_interleaved(run, plain.forward, batch, rounds))
        seconds = statistics.median(own for own, _ in pairs)
        found = agreement(run(batch), exact)
        rows[way.name] = {
            "samples_per_second": 1 / seconds,
            "ratio_to_bfloat16_forward": statistics.median(own / forward for own, forward in pairs),
            "forward_s": statistics.median(forward for _, forward in pairs),
            "passes_the_gate": found.passes(),
            **vars(found),
        }
    return {"flops_of_a_forward": flops, "matrix_flops_per_second": matrix_rate(device), "ways": rows}


def _interleaved(run: Contender, forward: Contender, batch: Pairs, rounds: int) -> Iterator[tuple[float, float]]:
    for _ in range(rounds):
        yield timed(run, batch), timed(forward, batch)


def _flops(forward: Contender, batch: Pairs) -> float:
    """Return the floating point operations of a pass, per sample."""
    with FlopCounterMode(display=False) as counter:
        forward(batch)
    return counter.get_total_flops() / len(batch)


def matrix_rate(device: torch.device, side: int = MATRIX) -> float:
    """Return the operations a second of a product of two square bfloat16 matrices."""
    side = side if device.type == "cuda" else side // 16
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in "ab")
    times = []
    for _ in range(WARM_UP + 5):
        started = time.perf_counter()
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 2 * side**3 / statistics.median(times[WARM_UP:])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="NAME", help="open_clip architectures")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--reference", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    console = Console()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks.gpu wants a CUDA device; the figures for a CPU are those of benchmarks.speed")
    device, models = torch.device("cuda"), {}
    for name in options.models:
        with console.status(name):
            sizes = options.batch, options.reference, options.rounds
            models[name] = measure(planned(name), device, *sizes, backend="inductor")
        show(console, name, models[name])
    settings = {"batch": options.batch, "reference": options.reference, "rounds": options.rounds}
    whole = {"environment": environment("cuda"), "settings": settings, "models": models}
    options.json.write_text(json.dumps(whole, indent=2) + "\n")


def show(console: Console, name: str, result: dict[str, Any]) -> None:
    table = Table(title=name, title_justify="left")
    for heading in ("diffin, one checkpoint", "samples/s", "bf16 forwards", "Spearman", "worst error", "gate"):
        table.add_column(heading, justify="left" if heading.startswith("diffin") else "right")
    for way, row in result["ways"].items():
        table.add_row(
            way,
            f"{row['samples_per_second']:.0f}",
            f"{row['ratio_to_bfloat16_forward']:.2f}",
            f"{row['spearman']:.4f}",
            f"{row['worst_relative_error']:.1e}",
            "passes" if row["passes_the_gate"] else "fails",
        )
    console.print(table)


if __name__ == "__main__":
    main()
