"""`python -m benchmarks.cleaning --data FOLDER --json OUT`: which ranking finds known errors first.

FOLDER holds cifar10/ and flickr8k/. On each pool a small CLIP is trained by open_clip's trainer, errors included; a job
scores the pool with its checkpoints, V = training; and the samples that a ranking puts last are compared with the known
errors. --work keeps pools, trainings and scores, and what is there is not made again.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks.environment import environment
from benchmarks.quality.pools import CIFAR_CLASSES, POOLS, Pair, write_splits
from coreset.scores import DEFAULT_SCORES, Score
from coreset.spec import JobSpec
from coreset.storage import Storage
from demo.train import Training, train
from workers.local.job import run_job

Values = npt.NDArray[np.float64]

TEXT = {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}


@dataclass(frozen=True)
class Recipe:
    """How a CLIP is trained on a pool. `own` are the epochs whose checkpoints self-influence is summed over."""

    vision: dict[str, int]
    epochs: int
    batch_size: int
    lr: float
    own: tuple[int, ...]

    @property
    def model(self) -> dict[str, Any]:
        return {"embed_dim": 64, "vision_cfg": self.vision, "text_cfg": TEXT}


RECIPES = {
    "cifar": Recipe(
        vision={"image_size": 32, "layers": 3, "width": 96, "head_width": 32, "patch_size": 4},
        epochs=8,
        batch_size=128,
        lr=1e-3,
        own=(2, 5, 8),
    ),
    "flickr": Recipe(
        vision={"image_size": 64, "layers": 3, "width": 96, "head_width": 32, "patch_size": 8},
        epochs=12,
        batch_size=128,
        lr=1e-3,
        own=(4, 8, 12),
    ),
}


def flipped(data: Path, share: float) -> list[Pair]:
    """CIFAR-10's pool with so large a share of class names replaced by another one, each other as likely."""
    pairs, draws = POOLS["cifar_clean"](data)["pool"], np.random.default_rng(3)
    chosen = {int(i) for i in draws.permutation(len(pairs))[: round(share * len(pairs))]}
    return [_other_class(pair, draws) if i in chosen else pair for i, pair in enumerate(pairs)]


def _other_class(pair: Pair, draws: np.random.Generator) -> Pair:
    true = pair.facts["class_name"]
    other = str(draws.choice([name for name in CIFAR_CLASSES if name != true]))
    return replace(pair, caption=pair.caption.replace(true, other), fault="flipped")


def _pool(data: Path, name: str) -> list[Pair]:
    return POOLS[name](data)["pool"]


CASES: dict[str, Callable[[Path], list[Pair]]] = {
    **{name: partial(_pool, name=name) for name in ("cifar_aggre", "cifar_random1", "cifar_worse")},
    "cifar_flips_10": partial(flipped, share=0.1),
    "cifar_flips_30": partial(flipped, share=0.3),
    "flickr_swapped": partial(_pool, name="flickr_swapped"),
}
"""Pools with known errors, by name, of the folder of the data."""

RANKED = (*(score.value for score in DEFAULT_SCORES if score is not Score.RANDOM), Score.SELF_INFLUENCE.value)

MIXES = (
    "diffin+clip_score",
    "diffin+neg_clip_loss",
    "diffin+loss",
    "neg_clip_loss+loss",
    "clip_score+loss",
    "diffin+clip_score+loss",
    "diffin+neg_clip_loss+loss",
    "self_influence+loss",
    "self_influence+neg_clip_loss",
    "self_influence+diffin",
    "self_influence+diffin+neg_clip_loss",
)
"""Means of ranks, as a job's `by` of several scores."""


@dataclass(frozen=True)
class Scored:
    """A pool's scores, higher = keep, and which samples have an error, (n,) each."""

    scores: dict[str, Values]
    wrong: npt.NDArray[np.bool_]

    def value(self, ranking: str) -> Values:
        """Return the value (n,) of a score, or of the mean of several scores' ranks."""
        names = ranking.split("+")
        return np.mean([stats.rankdata(self.scores[name]) for name in names], axis=0)


def trained(case: str, data: Path, folder: Path) -> Path:
    """Write the pool, train on it, and return the run."""
    recipe = RECIPES[case.split("_")[0]]
    write_splits({"pool": CASES[case](data)}, folder)
    run = folder / "logs" / "run"
    if (run / "checkpoints" / f"epoch_{recipe.epochs}.pt").exists():
        return run
    config = folder / "model.json"
    config.write_text(json.dumps(recipe.model))
    training = Training("run", recipe.epochs, recipe.batch_size, recipe.lr, model_config=config)
    return train(folder / "pool", folder / "logs", training)


def table_of(spec: dict[str, Any], folder: Path) -> pa.Table:
    """Run a job in this process and return its parts as one table, by uid."""
    manifest = run_job(JobSpec.model_validate(spec), Storage(str(folder / "results")), lambda job: None, 0)
    return pq.read_table([part.uri for part in manifest.parts]).sort_by("uid")


def specs(case: str, folder: Path, run: Path) -> dict[str, dict[str, Any]]:
    """Return the jobs: all scores at all checkpoints, and self-influence in several ways."""
    recipe = RECIPES[case.split("_")[0]]
    shards = sorted(str(path) for path in (folder / "pool").glob("*.tar"))
    base: dict[str, Any] = {"pool": {"shards": shards}, "thumbnails": False}

    def own(epochs: tuple[int, ...], **fields: Any) -> dict[str, Any]:
        files = [{"uri": str(run / "checkpoints" / f"epoch_{epoch}.pt")} for epoch in epochs]
        asked = {"scores": ["self_influence"], "select": {"fraction": 0.9, "by": "self_influence"}}
        return base | {"checkpoints": {"files": files}, "model": {"config": recipe.model}} | asked | fields

    return {
        "scores": base | {"checkpoints": {"run": str(run)}, "select": {"fraction": 0.9}},
        "self_influence": own(recipe.own),
        "self_influence_first": own(recipe.own[:1]),
        "self_influence_last": own(recipe.own[-1:]),
        "self_influence_last_block": own(recipe.own, parameters={"last_blocks": 1}),
    }


def scored(case: str, data: Path, folder: Path) -> tuple[Scored, dict[str, float]]:
    """Return a case's scores and errors, and the seconds that each step took here."""
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.monotonic()
        found = work()
        seconds[name] = round(time.monotonic() - started, 1)
        return found

    run = timed("training", lambda: trained(case, data, folder))
    tables = {name: timed(name, partial(table_of, spec, folder)) for name, spec in specs(case, folder, run).items()}
    faults = json.loads((folder / "pool" / "faults.json").read_text())
    main = tables.pop("scores")
    columns = {name: main[name] for name in RANKED if name in main.column_names}
    columns |= {name: table["self_influence"] for name, table in tables.items()}
    values = {name: column.to_numpy().astype(np.float64) for name, column in columns.items()}
    return Scored(values, np.array([uid in faults for uid in main["uid"].to_pylist()])), seconds


def found(value: Values, wrong: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Return how well the samples of the lowest values are the wrong ones.

    Returns:
        auc: how often a wrong sample has the lower value. precision: share of wrong ones among as many of the last as
        there are wrong ones. found_10, found_20: share of the wrong ones that is among the last 10 and 20 %.
    """
    order = np.argsort(value, kind="stable")
    errors = int(wrong.sum())
    above = stats.mannwhitneyu(value[~wrong], value[wrong]).statistic

    def among(count: int) -> int:
        return int(wrong[order[:count]].sum())

    return {
        "auc": float(above / (errors * (len(wrong) - errors))),
        "precision": among(errors) / errors,
        **{f"found_{share}": among(round(share * len(wrong) / 100)) / errors for share in (10, 20)},
    }


def measure(case: str, data: Path, folder: Path) -> dict[str, Any]:
    pool, seconds = scored(case, data, folder)
    rankings = [*pool.scores, *MIXES]
    errors = int(pool.wrong.sum())
    return {
        "samples": len(pool.wrong),
        "errors": errors,
        "perfect": {f"found_{share}": min(1.0, share * len(pool.wrong) / 100 / errors) for share in (10, 20)},
        "rankings": {name: found(pool.value(name), pool.wrong) for name in rankings},
        "seconds": seconds,
    }


def means(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return each ranking's means over the pools."""
    first = next(iter(results.values()))["rankings"]
    return {
        name: {kind: float(np.mean([each["rankings"][name][kind] for each in results.values()])) for kind in kinds}
        for name, kinds in first.items()
    }


def show(console: Console, title: str, rankings: dict[str, dict[str, float]]) -> None:
    table = Table(title=title, title_justify="left")
    for heading in ("ranking", "AUC", "precision", "found at 10 %", "at 20 %"):
        table.add_column(heading)
    for name, row in sorted(rankings.items(), key=lambda each: -each[1]["auc"]):
        table.add_row(name, f"{row['auc']:.3f}", *(f"{100 * value:.1f}" for value in list(row.values())[1:]))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cleaning", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="with cifar10/ and flickr8k/")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.add_argument("--only", choices=CASES, action="append", metavar="CASE")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="to keep; else a temporary one")
    options = parser.parse_args()
    console, results = Console(), {}
    with tempfile.TemporaryDirectory() as temporary:
        for case in options.only or CASES:
            results[case] = measure(case, options.data, (options.work or Path(temporary)) / case)
            show(console, f"{case}: {results[case]['errors']} wrong", results[case]["rankings"])
            whole = {
                "environment": environment(),
                "recipes": {name: vars(recipe) for name, recipe in RECIPES.items()},
                "means": means(results),
                "cases": results,
            }
            options.json.write_text(json.dumps(whole, indent=2) + "\n")
    show(console, "Means", means(results))


if __name__ == "__main__":
    main()
