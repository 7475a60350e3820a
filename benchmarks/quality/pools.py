"""The pools of the quality benchmark: real pairs with known faults, cut into pool, validation and test samples.

Every split is a seeded shuffle of the images, so no two of them share one. There are two test splits: recipes are
explored on `explore`, and what is reported is measured on `test`. A further run of a pool cuts the same pool and
validation images in another way, so that faults, V and B are other draws; its test splits are those of run 0.
"""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.shards import write_shard
from coreset_workers.data.tar import RawSample, ShardReader
from demo.drawing import draw, jpeg, near_copy
from demo.plan import sound_pool

SHARD_SAMPLES = 500
FAULTY_SHARE = 0.3
CIFAR_SPLITS = {"pool": 6000, "validation": 1000, "explore": 4000, "test": 6000}
FLICKR_SPLITS = {"pool": 5000, "validation": 500, "explore": 700, "test": 891}
LONGTAIL_SPLITS = {"pool": 9000, "validation": 1000, "explore": 4000, "test": 6000}
SCENES_SPLITS = {"pool": 2000, "validation": 500, "explore": 1000, "test": 1000}
MIXED_OF_EACH = 2000
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SYLLABLES = ("ba", "do", "ki", "lu", "me", "na", "po", "ri", "su", "ta", "ve", "zo")
RAREST_SHARE = 1 / 20
"""Size of the rarest class of the long tail, relative to the most frequent one."""
BOILERPLATE_SHARE = 0.5
BOILERPLATE = (
    "IMG_{}.JPG",
    "image {} of 24",
    "stock photo {} royalty free",
    "free download wallpaper {} hd",
    "click to enlarge",
    "photo {} by a user on march {}",
    "home page picture",
    "see the full gallery of {} photos",
)
FILLERS = ("image", "photo", "untitled", "jpg", "click here", "img 0001")


@dataclass(frozen=True)
class Pair:
    """An image-text pair; `fault` is what is wrong with it on purpose, "" if nothing is."""

    uid: str
    image: bytes
    caption: str
    fault: str = ""
    facts: dict[str, Any] = field(default_factory=dict[str, Any])


Splits = dict[str, list[Pair]]
"""By name: pool, validation, explore, test."""


def cifar(data: Path, run: int, labels: str) -> Splits:
    """CIFAR-10 captioned by class names; those of the pool are CIFAR-10N's aggre, random1 or worse labels, or clean."""
    splits = _split(list(_read(data / "cifar10" / "train")), CIFAR_SPLITS, run)
    if labels != "clean":
        name = {"aggre": "aggre_label", "random1": "random_label1", "worse": "worse_label"}[labels]
        splits["pool"] = [_relabelled(pair, name) for pair in splits["pool"]]
    return splits


def cifar_longtail(data: Path, run: int) -> Splits:
    """CIFAR-10, right labels; each of the pool's classes is smaller than the one before, V and tests are balanced."""
    splits = _split(list(_read(data / "cifar10" / "train")), LONGTAIL_SPLITS, run)
    order = [CIFAR_CLASSES[int(i)] for i in np.random.default_rng(3).permutation(len(CIFAR_CLASSES))]
    by_class = {name: [pair for pair in splits["pool"] if pair.facts["class_name"] == name] for name in order}
    most = min(map(len, by_class.values()))
    sizes = [round(most * RAREST_SHARE ** (place / (len(order) - 1))) for place in range(len(order))]
    kept = {pair.uid for name, size in zip(order, sizes, strict=True) for pair in by_class[name][:size]}
    return splits | {"pool": [pair for pair in splits["pool"] if pair.uid in kept]}


def _relabelled(pair: Pair, name: str) -> Pair:
    true = pair.facts["class_name"]
    given = CIFAR_CLASSES[pair.facts["cifar10n"][name]]
    return captioned(pair, given, "" if given == true else "wrong_label")


def captioned(pair: Pair, class_name: str, fault: str) -> Pair:
    """Return the pair with the caption of a class."""
    article = "an" if class_name[0] in "ao" else "a"  # one that does not fit would give wrong labels away
    return replace(pair, caption=f"a photo of {article} {class_name}", fault=fault)


def flickr(data: Path, run: int, fault: str) -> Splits:
    """Flickr8k, a caption an image; the pool as it is (natural) or with a fault."""
    splits = _split(list(_read(data / "flickr8k" / "train")), FLICKR_SPLITS, run)
    draws = np.random.default_rng(1)
    if fault != "natural":
        spoil = {"swapped": _swap, "nonsense": _babble, "duplicates": _duplicate, "boilerplate": _boilerplate}[fault]
        splits["pool"] = spoil(splits["pool"], draws)
    return splits


def _swap(pairs: list[Pair], draws: np.random.Generator) -> list[Pair]:
    """Give three tenths of the images each other's captions."""
    chosen = draws.permutation(len(pairs))[: round(FAULTY_SHARE * len(pairs))]
    captions = {int(i): pairs[int(j)].caption for i, j in zip(chosen, np.roll(chosen, 1), strict=True)}
    return [replace(p, caption=captions[i], fault="swapped") if i in captions else p for i, p in enumerate(pairs)]


def _babble(pairs: list[Pair], draws: np.random.Generator) -> list[Pair]:
    """Give 15 % of the images captions that say nothing, and 15 % words that do not exist, as many as were there."""
    chosen = [int(i) for i in draws.permutation(len(pairs))[: round(FAULTY_SHARE * len(pairs))]]
    found = list(pairs)
    for place, i in enumerate(chosen):
        empty = place % 2 == 0
        words = ("".join(draws.choice(SYLLABLES, size=draws.integers(2, 5))) for _ in pairs[i].caption.split())
        caption = str(draws.choice(FILLERS)) if empty else " ".join(words)
        found[i] = replace(pairs[i], caption=caption, fault="filler" if empty else "nonsense")
    return found


def _boilerplate(pairs: list[Pair], draws: np.random.Generator) -> list[Pair]:
    """Give half of the images captions that web pages put under any image."""
    found = list(pairs)
    for i in map(int, draws.permutation(len(pairs))[: round(BOILERPLATE_SHARE * len(pairs))]):
        caption = str(draws.choice(BOILERPLATE)).format(draws.integers(1, 9999), draws.integers(1, 31))
        found[i] = replace(pairs[i], caption=caption, fault="boilerplate")
    return found


def _duplicate(pairs: list[Pair], draws: np.random.Generator) -> list[Pair]:
    """Replace three tenths by near copies, with the same caption, of a tenth of the rest."""
    order = [int(i) for i in draws.permutation(len(pairs))]
    copies = order[: round(FAULTY_SHARE * len(pairs))]
    sources = order[len(copies) :][: len(pairs) // 14]
    found = list(pairs)
    for place, i in enumerate(copies):
        source = pairs[sources[place % len(sources)]]
        copy = near_copy(Image.open(io.BytesIO(source.image)).convert("RGB"), draws)
        found[i] = replace(source, uid=pairs[i].uid, image=jpeg(copy, 90), fault="near_duplicate")
    return found


def scenes(run: int) -> Splits:
    """Drawn scenes with true captions."""
    planned = sound_pool(sum(SCENES_SPLITS.values()), seed=5)
    return _split([Pair(p.uid, jpeg(draw(p.scene), 90), p.text) for p in planned], SCENES_SPLITS, run)


def mixed(data: Path, run: int, target: str) -> Splits:
    """Photos, class-named images and scenes together, as many of each, with V and the tests from one of them."""
    parts = {"photos": flickr(data, run, "swapped"), "classes": cifar(data, run, "random1"), "scenes": scenes(run)}
    pool = [pair for part in parts.values() for pair in part["pool"][:MIXED_OF_EACH]]
    order = np.random.default_rng(2).permutation(len(pool))
    return parts[target] | {"pool": [pool[int(i)] for i in order]}


POOLS: dict[str, Callable[[Path, int], Splits]] = {
    **{f"cifar_{labels}": partial(cifar, labels=labels) for labels in ("clean", "aggre", "random1", "worse")},
    **{f"flickr_{fault}": partial(flickr, fault=fault) for fault in ("natural", "swapped", "nonsense", "duplicates")},
    **{f"mixed_{target}": partial(mixed, target=target) for target in ("photos", "classes", "scenes")},
    "cifar_longtail": cifar_longtail,
    "flickr_boilerplate": partial(flickr, fault="boilerplate"),
}
"""By name, of the folder that holds cifar10/ and flickr8k/, and of the run. No recipe was chosen on the last two."""

UNTUNED = ("cifar_longtail", "flickr_boilerplate")


def write_splits(splits: Splits, folder: Path) -> None:
    """Write each split as shards in its own folder, and beside them faults.json, by uid."""
    for name, pairs in splits.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, first in enumerate(range(0, len(pairs), SHARD_SAMPLES)):
            write_shard(folder / name / f"{number:06d}.tar", [_raw(p) for p in pairs[first : first + SHARD_SAMPLES]])
        faults = {pair.uid: pair.fault for pair in pairs if pair.fault}
        (folder / name / "faults.json").write_text(json.dumps(faults))


def _read(folder: Path) -> Iterator[Pair]:
    for path in sorted(folder.glob("*.tar")):
        for raw in ShardReader(str(path)):
            facts = json.loads(raw.members["json"])
            yield Pair(facts["uid"], raw.members["jpg"], raw.members["txt"].decode(), facts=facts)


def _split(pairs: Sequence[Pair], sizes: dict[str, int], run: int) -> Splits:
    """Cut shuffled pairs into splits, of which the first two, pool and validation, are shuffled again after run 0."""
    order = np.random.default_rng(0).permutation(len(pairs))
    if run:
        shared = sizes["pool"] + sizes["validation"]
        order[:shared] = np.random.default_rng([4, run]).permutation(order[:shared])
    places = iter(order)
    return {name: [pairs[int(next(places))] for _ in range(size)] for name, size in sizes.items()}


def _raw(pair: Pair) -> RawSample:
    facts = json.dumps({"uid": pair.uid}).encode()
    return RawSample("", "", 0, {"jpg": pair.image, "txt": pair.caption.encode(), "json": facts})
