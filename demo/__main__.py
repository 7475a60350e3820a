"""`make demo`: the main job from nothing. A pool, a training run on it, the service, a job over HTTP, and its result.

The service gets shards and checkpoints only. Which samples are defective stands in a side file that this client
alone reads, to count how many of them each ranking lets into the coreset.
"""

import argparse
import io
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console

from coreset.cli.progress_bars import wait_with_progress
from coreset.client import Client
from coreset.errors import CoresetError
from coreset.local.stack import LocalStack, check_free
from coreset.schemas.job import Job, JobStatus
from coreset.schemas.manifest import Manifest
from demo.pool import write_pool, write_sound_shard
from demo.table import Method, show_methods

OUT = Path(__file__).with_name("out")
SUMMARY = Path(__file__).with_name("summary.json")
SAMPLES, SHARDS = 3000, 6
K = SAMPLES // 2
VALIDATION_SAMPLES = 256
REFERENCE_SIZE = 64
PORT = 8000
"""Of the service that --keep leaves running; without it the demo takes a free port."""

METHODS: dict[str, dict[str, float]] = {
    "diffin": {"diffin": 1},
    "diffin+clip_score": {"diffin": 1, "clip_score": 1},
    "clip_score": {"clip_score": 1},
    "neg_clip_loss": {"neg_clip_loss": 1},
    "tracin": {"tracin": 1},
    "random": {"random": 1},
}

console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help=f"leave the service running, on port {PORT}")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON; all else goes to stderr")
    options = parser.parse_args()
    console.stderr = options.json
    try:
        run(options.keep, options.json)
    except CoresetError as error:
        console.print(error.detail, style="red", markup=False)
        raise SystemExit(1) from None


def run(keep: bool, as_json: bool) -> None:
    started = time.monotonic()
    if keep:
        check_free(PORT)
    shutil.rmtree(OUT, ignore_errors=True)
    pool, validation, logs = OUT / "pool", OUT / "validation.tar", OUT / "logs"
    # The worker loads its libraries while the pool is drawn and the model trained.
    stack = LocalStack(OUT / "service", os.environ, port=PORT if keep else 0)
    with stack, Client(stack.url) as client:
        console.rule("1  a pool with known defects, and a CLIP trained on it", align="left")
        write_pool(pool, samples=SAMPLES, shards=SHARDS)
        write_sound_shard(validation, VALIDATION_SAMPLES, seed=1)
        console.print(f"{SAMPLES:,} image-text pairs in {SHARDS} shards: {pool}")
        console.print(f"{VALIDATION_SAMPLES} sound ones, the target of the influence: {validation}", soft_wrap=True)
        _train(pool, logs)
        console.rule(f"2  the job, over HTTP at {stack.url}", align="left")
        job = client.submit(job_spec(pool, validation, logs / "demo"))
        console.print(f"POST /v1/jobs → {job.id}")
        manifest = _finished(client, wait_with_progress(client, job.id))
        console.rule("3  the result", align="left")
        methods = compare_methods(client, manifest, pool / "defects.parquet")
        show_methods(console, manifest, methods)
        seconds = time.monotonic() - started
        write_summary(manifest, methods, seconds)
        if as_json:
            print(SUMMARY.read_text(), end="", flush=True)
        console.print(f"{seconds:.0f} s in all; the same figures: {SUMMARY}")
        if keep:
            console.print(f"The service runs at {stack.url} until you press Ctrl-C.")
            _wait(stack)


def job_spec(pool: Path, validation: Path, run_directory: Path) -> dict[str, Any]:
    scores = dict.fromkeys(score for by in METHODS.values() for score in by)
    return {
        "pool": {"shards": [str(pool / f"{{000000..{SHARDS - 1:06d}}}.tar")]},
        "checkpoints": {"run": str(run_directory)},
        "target": {"pool": {"shards": [str(validation)]}, "size": VALIDATION_SAMPLES},
        "reference": {"size": REFERENCE_SIZE},
        "scores": list(scores),
        "select": {"k": K},
    }


def _train(pool: Path, logs: Path) -> None:
    with console.status("loading open_clip"):
        from demo.train import Training, train  # imports torch: seconds
    started = time.monotonic()
    directory = train(pool, logs, Training())
    console.print(f"5 checkpoints by open_clip's trainer in {time.monotonic() - started:.0f} s: {directory}")


def _finished(client: Client, job: Job) -> Manifest:
    if job.status is not JobStatus.SUCCEEDED:
        raise CoresetError(f"the job is {job.status}: {job.reason.message if job.reason else 'no reason given'}")
    return client.result(job.id)


def compare_methods(client: Client, manifest: Manifest, defects: Path) -> dict[str, Method]:
    """Ask the service for every method's coreset of K samples, and count the marked defects in it."""
    marked = set(pq.read_table(defects, columns=["uid"])["uid"].to_pylist())
    found = {}
    for name, by in METHODS.items():
        selection = client.select(manifest.job_id, {"k": K, "by": by, "within": {}})
        subset = client.download(manifest.job_id, selection.id, "subset.parquet")
        uids = pq.read_table(io.BytesIO(subset), columns=["uid"])["uid"].to_pylist()
        compared = manifest.comparisons[name]
        found[name] = Method(
            defects_in_topk=len(marked.intersection(uids)) / K,
            overlap_clip_score=compared.overlap_clip_score,
            spearman_clip_score=compared.spearman_clip_score,
        )
    return found


def write_summary(manifest: Manifest, methods: dict[str, Method], seconds: float) -> None:
    summary = {
        "pool": {"samples": manifest.read, "scored": manifest.scored, "bad": manifest.bad, "shards": SHARDS},
        "k": K,
        "seconds": round(seconds, 1),
        "methods": {name: vars(method) for name, method in methods.items()},
        "result_dir": str(Path(manifest.selection.files["subset.npy"].uri).parents[2]),
    }
    SUMMARY.write_text(json.dumps(summary, indent=2) + "\n")


def _wait(stack: LocalStack) -> None:
    try:
        stack.wait()
    except KeyboardInterrupt:
        console.print("stopping")


if __name__ == "__main__":
    main()
