"""`python -m benchmarks.cleaning --data FOLDER --json OUT`: which ranking finds known errors first.

FOLDER holds cifar10/ and flickr8k/. On each pool a small CLIP is trained by open_clip's trainer, errors included; a job
scores the pool with its checkpoints, V = training; and the samples that a ranking puts last are compared with the known
errors. --work keeps pools, trainings and scores, and what is there is not made again.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks.environment import environment
from benchmarks.quality.models import CONFIG
from benchmarks.quality.pools import CIFAR_CLASSES, POOLS, Pair, captioned
from benchmarks.quality.scored import REFERENCE, TRAINING, make_pool, score, shards_in
from benchmarks.quality.scored import Scored as Job

Values = npt.NDArray[np.float64]

OWN = (2, 4)
"""The epochs whose checkpoints self-influence is summed over, at 32 passes a sample. The last one has no rate left."""
OWN_NAMES = [f"self_influence_{epoch}" for epoch in OWN]
OWN_SHARDS = 3
"""Shards that self-influence is computed for; the other scores are judged on these too, beside it."""


def flipped(data: Path, share: float) -> list[Pair]:
    """CIFAR-10's pool with so large a share of class names replaced by another one, each other as likely."""
    pairs, draws = POOLS["cifar_clean"](data, 0)["pool"], np.random.default_rng(3)
    chosen = {int(i) for i in draws.permutation(len(pairs))[: round(share * len(pairs))]}
    return [_other_class(pair, draws) if i in chosen else pair for i, pair in enumerate(pairs)]


def _other_class(pair: Pair, draws: np.random.Generator) -> Pair:
    true = pair.facts["class_name"]
    other = str(draws.choice([name for name in CIFAR_CLASSES if name != true]))
    return captioned(pair, other, "flipped")


def _pool(data: Path, name: str) -> list[Pair]:
    return POOLS[name](data, 0)["pool"]


CASES: dict[str, Callable[[Path], list[Pair]]] = {
    **{name: partial(_pool, name=name) for name in ("cifar_aggre", "cifar_random1", "cifar_worse")},
    "cifar_flips_10": partial(flipped, share=0.1),
    "cifar_flips_30": partial(flipped, share=0.3),
    "flickr_swapped": partial(_pool, name="flickr_swapped"),
}
"""Pools with known errors, by name, of the folder of the data."""

USUAL = ("diffin", "tracin", "clip_score", "neg_clip_loss", "loss")

MIXES = (
    "diffin+clip_score",
    "diffin+neg_clip_loss",
    "diffin+loss",
    "neg_clip_loss+loss",
    "clip_score+loss",
    "diffin+clip_score+loss",
    "diffin+neg_clip_loss+loss",
)
"""Means of ranks, as a job's `by` of several scores."""

OWN_MIXES = (
    "+".join(OWN_NAMES),
    "self_influence+loss",
    "self_influence+neg_clip_loss",
    "self_influence+diffin",
    "self_influence+neg_clip_loss+loss",
)

BY_CAPTION = (*USUAL, "self_influence")
"""Scores that are also ranked among the samples of each caption, where these are classes."""


@dataclass(frozen=True)
class Scored:
    """A pool's scores, higher = keep, and which samples have an error, (n,) each."""

    scores: dict[str, Values]
    wrong: npt.NDArray[np.bool_]

    def value(self, ranking: str) -> Values:
        """Return the value (n,) of a score, or of the mean of several scores' ranks."""
        names = ranking.split("+")
        return np.mean([stats.rankdata(self.scores[name]) for name in names], axis=0)

    def judged(self, mixes: Iterable[str]) -> dict[str, Any]:
        """Return what each score and mix finds, and what a perfect one would."""
        errors, samples = int(self.wrong.sum()), len(self.wrong)
        return {
            "samples": samples,
            "errors": errors,
            "perfect": {f"found_{share}": min(1.0, share * samples / 100 / errors) for share in (10, 20)},
            "rankings": {name: found(self.value(name), self.wrong) for name in (*self.scores, *mixes)},
        }


def usual_scores(folder: Path) -> pa.Table:
    """Return the scores of the quality benchmark, V = training, by uid."""
    return _table(score(folder, "training"))


def own_scores(folder: Path, epoch: int) -> pa.Table:
    """Return the self-influence of one epoch, by uid."""
    asked: dict[str, Any] = {
        "pool": {"shards": shards_in(folder / "pool")[:OWN_SHARDS]},
        "checkpoints": {"files": [str(folder / "logs" / "run" / "checkpoints" / f"epoch_{epoch}.pt")]},
        "model": {"config": CONFIG},
        "scores": ["self_influence"],
        "select": {"fraction": 0.9, "by": "self_influence"},
    }
    return _table(score(folder, "training", **asked))


def _table(job: Job) -> pa.Table:
    return pq.read_table([part.uri for part in job.manifest.parts]).sort_by("uid")


def measure(case: str, data: Path, folder: Path) -> dict[str, Any]:
    """Return what each ranking finds in a case's pool."""
    make_pool(lambda: {"pool": CASES[case](data)}, folder)
    return _scored(usual_scores(folder), {}, _faults(folder)).judged(MIXES)


def beside_self_influence(folder: Path) -> dict[str, Any]:
    """Return what each ranking finds in some shards of a pool that was measured, self-influence among them."""
    own = {name: own_scores(folder, epoch) for epoch, name in zip(OWN, OWN_NAMES, strict=True)}
    values = {name: table["self_influence"].to_numpy().astype(np.float64) for name, table in own.items()}
    values["self_influence"] = np.sum(list(values.values()), axis=0)  # as a job of all these epochs sums them
    usual = usual_scores(folder)
    part = usual.filter(pc.is_in(usual["uid"], own[OWN_NAMES[0]]["uid"]))
    return _scored(part, values, _faults(folder)).judged([*MIXES, *OWN_MIXES])


def _faults(folder: Path) -> dict[str, str]:
    return json.loads((folder / "pool" / "faults.json").read_text())


def _scored(table: pa.Table, more: dict[str, Values], faults: dict[str, str]) -> Scored:
    scores = {name: table[name].to_numpy().astype(np.float64) for name in USUAL} | more
    captions = [str(caption) for caption in table["caption"].to_pylist()]
    if len(set(captions)) < len(captions) / 10:
        scores |= {f"{name}, by caption": _within(scores[name], captions) for name in BY_CAPTION if name in scores}
    return Scored(scores, np.array([uid in faults for uid in table["uid"].to_pylist()]))


def _within(value: Values, captions: list[str]) -> Values:
    """Return each sample's place (n,) among those of its caption, 0 to 1."""
    _, group = np.unique(captions, return_inverse=True)
    places = np.zeros(len(value))
    for each in range(group.max() + 1):
        rows = group == each
        places[rows] = (stats.rankdata(value[rows]) - 0.5) / rows.sum()
    return places


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


def means(results: Iterable[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the means over the pools of each ranking that all have."""
    rankings = [each["rankings"] for each in results]
    return {
        name: {kind: float(np.mean([each[name][kind] for each in rankings])) for kind in kinds}
        for name, kinds in rankings[0].items()
        if all(name in each for each in rankings)
    }


def summarised(results: dict[str, Any]) -> dict[str, Any]:
    beside = [each["beside_self_influence"] for each in results.values() if "beside_self_influence" in each]
    return {
        "environment": environment(),
        "training": TRAINING | {"model": CONFIG},
        "reference": REFERENCE,
        "self_influence": {"epochs": OWN, "shards": OWN_SHARDS},
        "means": {"pools": means(results.values())} | ({"beside_self_influence": means(beside)} if beside else {}),
        "cases": results,
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
    parser.add_argument("--without-self-influence", action="store_true", help="leave out the dearest score")
    options = parser.parse_args()
    console, results, whole = Console(), {}, dict[str, Any]()
    with tempfile.TemporaryDirectory() as temporary:
        for case in options.only or CASES:
            folder = (options.work or Path(temporary)) / case
            results[case] = measure(case, options.data, folder)
            if not options.without_self_influence:
                results[case]["beside_self_influence"] = beside_self_influence(folder)
            show(console, f"{case}: {results[case]['errors']} wrong", results[case]["rankings"])
            whole = summarised(results)
            options.json.write_text(json.dumps(whole, indent=2) + "\n")
    for name, table in whole["means"].items():
        show(console, f"Means, {name}", table)


if __name__ == "__main__":
    main()
