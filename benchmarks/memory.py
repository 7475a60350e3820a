"""`python -m benchmarks.memory --json OUT`: bytes that a pass takes, against those that a preflight counts for it.

Each pass runs once in a process of its own; what it takes is how far its peak rises above what it held before.
The peak is Linux's (`VmHWM`, reset by `clear_refs`).
"""

import argparse
import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.contenders import planned, random_pairs
from benchmarks.environment import environment
from coreset_workers.model.batch_size import LARGEST_GRAPH
from coreset_workers.model.clip import ClipModel
from coreset_workers.model.meta_device import Shadow, peak_bytes
from diffin.autodiff import derivative
from diffin.batch_loss import ContrastiveLoss
from diffin.contrastive import Encoded
from diffin.samples import ContrastiveLosses

MODELS = ("ViT-B-32", "RN50")
PASSES = {"forward": 64, "product": 16, "exact": 16}
"""Samples of each."""

REFERENCE = 64
LARGE = "ViT-L-14"
"""Its product is only counted: no machine at hand has its memory."""


def traced(name: str, what: str, samples: int) -> int:
    """Return what a preflight counts, bytes."""
    shadow = Shadow.of(ClipModel.build(planned(name), torch.device("cpu")))
    sizes = (samples,) if what == "product" else (samples, REFERENCE)
    return peak_bytes(getattr(shadow, what)(*sizes))


def taken(name: str, what: str, samples: int) -> int:
    """Return what the pass takes in this process, bytes."""
    torch.set_num_threads(1)
    model = ClipModel.build(planned(name), torch.device("cpu"))
    weights = model.weights(model.module.state_dict(), name)
    encode = model.encoder(weights.fixed)
    pairs, reference = (random_pairs(model, count, seed) for count, seed in ((samples, 1), (REFERENCE, 2)))
    losses = ContrastiveLosses(encode, reference, model.kind)
    along: Callable[[Tensor], Tensor] = lambda theta: losses.losses(theta, losses.context(theta), pairs)  # noqa: E731
    theta, direction = weights.theta, torch.ones_like(weights.theta)
    before = _reset()  # nothing has run: what an earlier pass had freed would be taken again unseen
    if what == "forward":
        with torch.no_grad():
            encoded = encode(theta, pairs).double()
            rows = encoded.image.new_zeros(REFERENCE, encoded.image.shape[1])
            losses.of(encoded, Encoded(rows, rows, encoded.scale, encoded.bias), pairs)
    elif what == "product":
        ContrastiveLoss(encode, pairs, model.kind).hvp(theta, direction)
    else:
        derivative(along, theta, direction)
    return _kilobytes("VmHWM") * 1024 - before


def _reset() -> int:
    """Set the peak to what is resident, and return that, bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _kilobytes("VmRSS") * 1024


def _kilobytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def measure(name: str, what: str, samples: int) -> dict[str, Any]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        measured = alone.submit(taken, name, what, samples).result()
    counted = traced(name, what, samples)
    found = {"model": name, "pass": what, "samples": samples, "counted": counted, "measured": measured}
    return found | {"ratio": measured / counted}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.add_argument("--models", nargs="+", default=MODELS)
    options = parser.parse_args()
    console = Console()
    with console.status("measuring"):
        rows = [measure(name, what, samples) for name in options.models for what, samples in PASSES.items()]
        graphs = {name: traced(name, "product", LARGEST_GRAPH) for name in (*options.models, LARGE)}
    whole = {"environment": environment(), "passes": rows, f"product_of_{LARGEST_GRAPH}_counted": graphs}
    options.json.write_text(json.dumps(whole, indent=2) + "\n")
    table = Table("model", "pass", "samples", "counted, MB", "measured, MB", "ratio")
    for row in rows:
        sizes = [f"{row[key] / 1e6:,.0f}" for key in ("counted", "measured")]
        table.add_row(row["model"], row["pass"], str(row["samples"]), *sizes, f"{row['ratio']:.2f}")
    console.print(table)
    for name, count in graphs.items():
        console.print(f"a product of {LARGEST_GRAPH}, {name}, counted: {count / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
