"""`python -m benchmarks.reliability --data FOLDER --json OUT`: agreement of `diffin` under two draws of minibatches.

On the pools of `benchmarks.quality`, with the runs that its trainer makes: the target's gradient is traced back from a
checkpoint (the horizon) by one draw of B and the minibatches and by another, and 300 samples of the pool are scored by
both. V is the whole validation split in both, so nothing but the draw differs. Rows of OUT are not measured again.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import stats
from torch import Tensor

from benchmarks.environment import environment
from benchmarks.quality.pools import POOLS
from benchmarks.quality.scored import REFERENCE, VALIDATION, make_pool, shards_in
from coreset.schemas.plan import Plan
from coreset.spec.job import JobSpec
from coreset_workers.checkpoints import files
from coreset_workers.checkpoints.optimizer import adam_preconditioner
from coreset_workers.data.loader import Loader
from coreset_workers.data.reference import draw
from coreset_workers.model.clip import ClipModel
from coreset_workers.model.inputs import RUN, pairs_of_samples, view_of
from coreset_workers.stages.plan import make_plan
from diffin.accuracy import reliability
from diffin.adjoint import Resolution, Segment, trace_back
from diffin.batch_loss import BatchLoss, ContrastiveLoss, GaussNewton
from diffin.contrastive import Pairs
from diffin.samples import ContrastiveLosses

SAMPLES = 300
DRAWN = 1280
PIECES = 5
TODAY = ("flickr_swapped", "flickr_natural", "mixed_photos")


@dataclass(frozen=True)
class Choice:
    """How the target's gradient is traced back.

    Attributes:
        gauss_newton: the Gauss-Newton matrix in the place of the Hessian.
        mean: one piece a segment, with the mean of the minibatches' matrices; else a piece for each.
        lanczos_steps: for each piece.
        size: of a minibatch.
    """

    gauss_newton: bool
    mean: bool = False
    lanczos_steps: int = 3
    size: int = REFERENCE


CHOICES = {
    "Hessian": Choice(False),
    "Hessian, mean": Choice(False, mean=True),
    "Gauss-Newton": Choice(True),
    "Gauss-Newton, mean": Choice(True, mean=True),
    "Gauss-Newton, 256": Choice(True, size=256),
}


@dataclass(frozen=True)
class Mean:
    """The mean of losses: what a segment has in one piece."""

    losses: Sequence[BatchLoss]

    def gradient(self, theta: Tensor) -> Tensor:
        return torch.stack([loss.gradient(theta) for loss in self.losses]).mean(0)

    def hvp(self, theta: Tensor, direction: Tensor) -> Tensor:
        return torch.stack([loss.hvp(theta, direction) for loss in self.losses]).mean(0)


@dataclass(frozen=True)
class Pool:
    """A pool with a run on it: V, the samples that are scored, and what is wrong with each on purpose."""

    plan: Plan
    model: ClipModel
    loader: Loader
    validation: Pairs
    scored: Pairs
    wrong: np.ndarray

    @classmethod
    def of(cls, folder: Path) -> "Pool":
        target = {"pool": {"shards": shards_in(folder / "validation")}, "size": VALIDATION}
        spec = {
            "pool": {"shards": shards_in(folder / "pool")},
            "checkpoints": {"run": str(folder / "logs" / "run")},
            "target": target,
            "reference": {"size": REFERENCE},
            "select": {"fraction": 0.5},
        }
        plan, _ = make_plan(JobSpec.model_validate(spec))
        loader = Loader({RUN: view_of(plan.model)}, None, processes=0)
        faults = json.loads((folder / "pool" / "faults.json").read_text())
        scored = draw(plan.shards, SAMPLES, 99, loader)[0]
        validation = draw(plan.target_shards, VALIDATION, 0, loader)[0]
        return cls(
            plan,
            ClipModel.build(plan.model, torch.device("cpu"), torch.float32),
            loader,
            pairs_of_samples(validation, RUN),
            pairs_of_samples(scored, RUN),
            np.array([sample.uid in faults for sample in scored]),
        )

    def terms(self, choice: Choice, horizon: int, seed: int) -> tuple[np.ndarray, list[Resolution]]:
        """Return `diffin`'s terms (horizon, n) by checkpoint, and how exact the trace is."""
        drawn = pairs_of_samples(draw(self.plan.shards, DRAWN, seed, self.loader)[0], RUN)
        numbers = np.random.default_rng([seed, 7])
        segments, losses = [], []
        for planned in self.plan.checkpoints[:horizon]:
            loaded = files.load(planned.uri)
            weights = self.model.weights(loaded.state_dict, planned.uri)
            found = adam_preconditioner(loaded.optimizer, self.model.shapes, self.model.layout.names)
            assert found is not None
            encode = self.model.encoder(weights.fixed)
            rows = [torch.from_numpy(numbers.choice(DRAWN, choice.size, replace=False)) for _ in range(PIECES)]
            pieces: list[BatchLoss] = [ContrastiveLoss(encode, drawn[some], self.model.kind) for some in rows]
            if choice.gauss_newton:
                pieces = [GaussNewton(piece) for piece in pieces if isinstance(piece, ContrastiveLoss)]
            pieces = [Mean(pieces)] if choice.mean else pieces
            segments.append(Segment(weights.theta, planned.lr_sum.value, pieces, self.model.layout.flatten(found)))
            losses.append(ContrastiveLosses(encode, drawn[:REFERENCE], self.model.kind))
        target = ContrastiveLoss(losses[-1].encode, self.validation, self.model.kind).gradient(segments[-1].theta)
        directions, resolutions = trace_back(segments, target, choice.lanczos_steps)
        terms = [
            loss.slopes(segment.theta, r, loss.context_along(segment.theta, r), self.scored)[1].numpy()
            for loss, segment, r in zip(losses, segments, directions, strict=True)
        ]
        return np.stack(terms), resolutions

    def auc(self, score: np.ndarray) -> float | None:
        """Return how often a sound pair is above a wrong one."""
        sound, wrong = score[~self.wrong], score[self.wrong]
        return float(stats.mannwhitneyu(sound, wrong).statistic / sound.size / wrong.size) if wrong.size else None


def measure(pool: Pool, choice: Choice, horizon: int) -> dict[str, Any]:
    """Return how two draws agree: on samples, and on means of 10 samples each."""
    started = time.process_time()
    (first, resolutions), (second, _) = (pool.terms(choice, horizon, seed) for seed in (0, 1))
    a, b = first.sum(0), second.sum(0)
    found = reliability(torch.from_numpy(a), torch.from_numpy(b))
    order = np.random.default_rng(0).permutation(len(a)).reshape(-1, 10)
    return {
        **asdict(choice),
        "between_draws": found.between_draws,
        "of_mean": found.of_mean,
        "between_draws_means_of_10": reliability(*(torch.from_numpy(x[order].mean(1)) for x in (a, b))).between_draws,
        "shares": [float(np.cov(term, a)[0, 1] / a.var(ddof=1)) for term in first],
        "auc": [pool.auc(a), pool.auc(b)],
        "auc_of_mean": pool.auc(a + b),
        "kept": [one.kept for one in resolutions],
        "residual": [one.residual for one in resolutions],
        "cpu_seconds_a_draw": (time.process_time() - started) / 2,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.add_argument("--work", type=Path, default=Path("quality-work"), help="keeps pools and trainings")
    parser.add_argument("--pools", nargs="+", choices=list(POOLS), default=list(TODAY), metavar="POOL")
    parser.add_argument("--horizons", nargs="+", type=int, default=[1, 2, 5], help="checkpoints that are traced")
    parser.add_argument("--choices", nargs="+", choices=list(CHOICES), default=list(CHOICES), metavar="CHOICE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    rows: dict[str, Any] = json.loads(options.json.read_text())["rows"] if options.json.exists() else {}
    for name in options.pools:
        make_pool(lambda name=name: POOLS[name](options.data, 0), options.work / name)
        pool = Pool.of(options.work / name)
        for horizon in options.horizons:
            for choice in options.choices:
                key = f"{name}, {horizon} checkpoints, {choice}"
                if key not in rows:
                    rows[key] = measure(pool, CHOICES[choice], horizon)
                    console.print(f"{key}: {rows[key]['between_draws']:.3f}")
                    found = {"environment": environment(), "samples": SAMPLES, "rows": rows}
                    options.json.write_text(json.dumps(found, indent=1) + "\n")
    show(console, rows)


def show(console: Console, rows: dict[str, Any]) -> None:
    table = Table(*("pool, horizon, choice", "between draws", "of their mean", "means of 10", "CPU s a draw"))
    for key, row in rows.items():
        figures = ("between_draws", "of_mean", "between_draws_means_of_10", "cpu_seconds_a_draw")
        table.add_row(key, *(f"{row[name]:.2f}" for name in figures))
    console.print(table)


if __name__ == "__main__":
    main()
