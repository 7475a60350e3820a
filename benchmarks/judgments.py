"""`python -m benchmarks.judgments --data FOLDER --json OUT`: do scores follow what people say of captions?

FOLDER/flickr8k holds folders of shards, captions_all5.tsv.gz and human_judgments/: ratings of image-caption pairs by
experts (1 to 4, three each) and by a crowd (share of yes). The pairs whose image is in a shard are scored by a job,
with a CLIP that is trained on flickr8k/train here (--run: one that is there), and with --model. For pairs without an
image the text tower alone can be judged: by the cosine of the caption with those that people wrote for the image.
"""

import argparse
import csv
import gzip
import hashlib
import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import pyarrow.parquet as pq
import torch
from rich.console import Console
from scipy import stats

from benchmarks.environment import environment
from benchmarks.quality.scored import shards_in, train_small
from benchmarks.shards import write_shard
from coreset.spec.job import JobSpec
from coreset.storage.storage import Storage
from coreset_workers.checkpoints import files as checkpoint_files
from coreset_workers.data.tar import RawSample, ShardReader
from coreset_workers.local.job import run_job

RESAMPLES = 200
SHARD_SAMPLES = 1000
BATCH = 512

PUBLISHED = {
    "source": "Hessel et al., CLIPScore, EMNLP 2021, table 1: CLIP ViT-B/32 of OpenAI",
    "expert": {"clip_score": {"tau_c": 0.512}},
    "crowd": {"clip_score": {"tau_b": 0.344}},
}

SCORED = ("clip_score", "neg_clip_loss", "loss")
"""Influence is about training, and these pairs were not in it."""
TEXT = "text_alone"


@dataclass(frozen=True)
class Judged:
    """A caption for an image, named as CAPTION's image and number, and what each judge said of it."""

    image: str
    caption_id: str
    ratings: tuple[float, ...]

    @property
    def uid(self) -> str:
        return hashlib.sha256(f"{self.image}/{self.caption_id}".encode()).hexdigest()[:32]

    @property
    def own(self) -> bool:
        """Whether the caption was written for this image."""
        return self.caption_id.startswith(self.image)


def read_judgments(folder: Path) -> tuple[dict[str, list[Judged]], int]:
    """Return the judged pairs, by who judged, and how many lines are damaged. Experts' own captions are left out, as
    in the CLIPScore paper."""
    expert, lost_there = _lines(folder / "ExpertAnnotations.txt.gz", 3)
    crowd, lost_here = _lines(folder / "CrowdFlowerAnnotations.txt.gz", 1)
    return {"expert": [pair for pair in expert if not pair.own], "crowd": crowd}, lost_there + lost_here


def _lines(path: Path, ratings: int) -> tuple[list[Judged], int]:
    """Return the pairs of a file of five columns, of which the ratings come third, and how many lines are not so."""
    found: list[Judged] = []
    lines = [line for line in gzip.decompress(path.read_bytes()).split(b"\n") if line]
    for line in lines:
        try:
            image, caption_id, *numbers = line.decode("ascii").split("\t")
            first, second, third = map(float, numbers)
        except ValueError:
            continue
        found.append(Judged(image, caption_id, (first, second, third)[:ratings]))
    return found, len(lines) - len(found)


def read_captions(path: Path) -> dict[str, str]:
    """Return captions by image#number."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {f"{row['image']}#{row['caption_id']}": row["caption"] for row in rows}


def read_images(folder: Path, wanted: set[str]) -> dict[str, bytes]:
    """Return the JPEGs of the wanted images that are in the shards below a folder."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.glob("*/*.tar")):
        for raw in ShardReader(str(path)):
            name = json.loads(raw.members["json"])["image"]
            if name in wanted:
                found[name] = raw.members["jpg"]
    return found


def write_judged(pairs: Iterable[Judged], images: dict[str, bytes], captions: dict[str, str], folder: Path) -> None:
    """Write the pairs as shards, each once."""
    folder.mkdir(parents=True, exist_ok=True)
    raws = [
        RawSample("", "", 0, {
            "jpg": images[pair.image],
            "txt": captions[pair.caption_id].encode(),
            "json": json.dumps({"uid": pair.uid}).encode(),
        })
        for pair in {pair.uid: pair for pair in pairs}.values()
    ]  # fmt: skip
    for number, first in enumerate(range(0, len(raws), SHARD_SAMPLES)):
        write_shard(folder / f"{number:06d}.tar", raws[first : first + SHARD_SAMPLES])


def scores_of(judged: Path, train_shards: list[str], run: Path, clip_model: Any, folder: Path) -> dict[str, Any]:
    """Return each score by uid, of a job over the judged pairs and the training's own; B is drawn from both."""
    shards = [*shards_in(judged), *train_shards]
    names = SCORED[:2] if clip_model else SCORED
    spec = {
        "pool": {"shards": shards},
        "checkpoints": {"run": str(run)},
        "clip_model": clip_model,
        "scores": names,
        "select": {"fraction": 0.5, "by": "clip_score"},
        "thumbnails": False,
    }
    manifest = run_job(JobSpec.model_validate(spec), Storage(str(folder / "results")), lambda job: None, 0)
    table = pq.read_table([part.uri for part in manifest.parts])
    return {name: dict(zip(table["uid"].to_pylist(), table[name].to_pylist(), strict=True)) for name in names}


def text_alone(module: Any, tokenize: Any, pairs: list[Judged], captions: dict[str, str]) -> dict[str, float]:
    """Return by uid the largest cosine of a pair's caption with the others that people wrote for its image."""
    ids = list(captions)
    place = {caption_id: i for i, caption_id in enumerate(ids)}
    with torch.no_grad():
        texts = [list(captions.values())[i : i + BATCH] for i in range(0, len(ids), BATCH)]
        embedded = torch.cat([module.encode_text(tokenize(batch), normalize=True) for batch in texts]).numpy()

    def cosine(pair: Judged) -> float:
        others = [f"{pair.image}#{n}" for n in range(5) if f"{pair.image}#{n}" != pair.caption_id]
        rows = [place[name] for name in others if name in place]
        return float((embedded[rows] @ embedded[place[pair.caption_id]]).max())

    return {pair.uid: cosine(pair) for pair in pairs}


def agreement(pairs: list[Judged], score: dict[str, float]) -> dict[str, Any]:
    """Return the rank correlations of a score with single ratings, and 95 % intervals by resampling images."""
    images = {name: i for i, name in enumerate(dict.fromkeys(pair.image for pair in pairs))}
    flat = [(score[pair.uid], rating, images[pair.image]) for pair in pairs for rating in pair.ratings]
    values, ratings, image = (np.array(column) for column in zip(*flat, strict=True))
    rows_of = np.split(np.argsort(image, kind="stable"), np.cumsum(np.bincount(image))[:-1])
    draws = np.random.default_rng(0)
    again: list[dict[str, float]] = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([rows_of[i] for i in draws.integers(len(rows_of), size=len(rows_of))])
        again.append(_correlations(values[rows], ratings[rows]))
    whole: dict[str, Any] = dict(_correlations(values, ratings))
    intervals = {f"{kind}_95": np.percentile([each[kind] for each in again], [2.5, 97.5]).tolist() for kind in whole}
    return {"pairs": len(pairs), "ratings": len(flat), "images": len(images)} | whole | intervals


def _correlations(values: npt.NDArray[Any], ratings: npt.NDArray[Any]) -> dict[str, float]:
    found: dict[str, Any] = {
        "spearman": stats.spearmanr(values, ratings),
        "tau_b": stats.kendalltau(values, ratings, variant="b"),
        "tau_c": stats.kendalltau(values, ratings, variant="c"),
    }
    return {kind: float(each.statistic) for kind, each in found.items()}


def towers(run: Path, clip_model: dict[str, str] | None) -> tuple[Any, Any]:
    """Return the module of the run's last checkpoint, or of the model that is named, and its tokenizer."""
    if clip_model:
        name = clip_model["name"]
        module = open_clip.create_model(name, pretrained=clip_model["pretrained"])
        return module.eval(), open_clip.get_tokenizer(name)
    config = json.loads((run / "open_clip_config.json").read_text())["model_cfg"]
    module = open_clip.CLIP(**config)
    last = max((run / "checkpoints").glob("epoch_*.pt"), key=lambda path: int(path.stem.split("_")[1]))
    module.load_state_dict(checkpoint_files.load(str(last)).state_dict)
    return module.eval(), open_clip.SimpleTokenizer(context_length=config["text_cfg"]["context_length"])


def measure(data: Path, run: Path, clip_model: dict[str, str] | None, folder: Path) -> dict[str, Any]:
    """Return, for experts and crowd, each score's agreement: of the text tower with all, of the others with images."""
    judgments, damaged = read_judgments(data / "human_judgments")
    captions = read_captions(data / "captions_all5.tsv.gz")
    every = [pair for pairs in judgments.values() for pair in pairs]
    images = read_images(data, {pair.image for pair in every})
    scores = {TEXT: text_alone(*towers(run, clip_model), every, captions)}
    seen = [pair for pair in every if pair.image in images]
    if seen:
        write_judged(seen, images, captions, folder / "judged")
        scores |= scores_of(folder / "judged", shards_in(data / "train"), run, clip_model, folder)
    found = {
        who: {name: agreement(own, score) for name, score in scores.items() if (own := _with(pairs, score))}
        for who, pairs in judgments.items()
    }
    return {
        "damaged_lines": damaged,
        "judged_images": len({pair.image for pair in every}),
        "in_shards": len(images),
    } | found


def _with(pairs: list[Judged], score: dict[str, float]) -> list[Judged]:
    return [pair for pair in pairs if pair.uid in score]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judgments", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="that holds flickr8k/")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.add_argument("--run", type=Path, help="an open_clip run; else one is trained, for some minutes")
    parser.add_argument("--model", help="also an open_clip model by its name")
    parser.add_argument("--pretrained", metavar="FILE", help="its weights")
    options = parser.parse_args()
    data = options.data / "flickr8k"
    with tempfile.TemporaryDirectory() as temporary:
        run = options.run or train_small(data / "train", Path(temporary))
        models: dict[str, Any] = {"run": measure(data, run, None, Path(temporary))}
        if options.model:
            named = {"name": options.model, "pretrained": options.pretrained}
            models[options.model] = measure(data, run, named, Path(temporary))
    whole = {"environment": environment(), "resamples": RESAMPLES, "published": PUBLISHED, "models": models}
    options.json.write_text(json.dumps(whole, indent=2) + "\n")
    Console().print_json(data=models)


if __name__ == "__main__":
    main()
