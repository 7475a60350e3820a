"""The pool's plan: which scene, which caption and which known defect each sample has, before anything is drawn."""

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from demo.captions import caption
from demo.scenes import Scene, random_scene

SMALLEST_POOL = 40


class Defect(StrEnum):
    """What is wrong with a sample, on purpose."""

    NONE = ""
    MISMATCHED = "mismatched_caption"
    NEAR_DUPLICATE = "near_duplicate"
    EMPTY = "empty_caption"
    BROKEN = "broken_image"
    IMAGELESS = "missing_image"


SHARES = {Defect.MISMATCHED: 0.15, Defect.NEAR_DUPLICATE: 0.05, Defect.EMPTY: 0.01, Defect.BROKEN: 0.005}
"""Share of the pool with each defect; besides, exactly one sample has no image. No sample has two defects."""


@dataclass(frozen=True, slots=True)
class PlannedSample:
    """A sample to be drawn. `seed` starts the random numbers for its encoding and for what breaks it."""

    uid: str
    seed: tuple[int, ...]
    scene: Scene
    text: str
    defect: Defect


def plan_pool(samples: int, seed: int) -> list[PlannedSample]:
    """Plan a pool of `samples` (at least 40) samples; the same numbers give the same plan."""
    if samples < SMALLEST_POOL:
        raise ValueError(f"a pool needs at least {SMALLEST_POOL} samples to hold every defect, got {samples}")
    pool = sound_pool(samples, seed)
    rng = np.random.default_rng([seed, samples])
    groups = _choose_defects(samples, rng)
    _swap_captions(pool, groups[Defect.MISMATCHED])
    _duplicate(pool, groups[Defect.NEAR_DUPLICATE], groups[Defect.NONE], rng)
    for index in groups[Defect.EMPTY]:
        pool[index] = replace(pool[index], text="")
    for defect, indices in groups.items():
        for index in indices:
            pool[index] = replace(pool[index], defect=defect)
    return pool


def sound_pool(samples: int, seed: int) -> list[PlannedSample]:
    """The pool before anything is spoiled: every caption is true of its image."""
    return [_sound_sample(index, seed) for index in range(samples)]


def defect_counts(samples: int) -> dict[Defect, int]:
    """How many samples of a pool have each defect: the nearest to its share, but at least one."""
    counts = {defect: max(1, round(share * samples)) for defect, share in SHARES.items()}
    counts[Defect.IMAGELESS] = 1
    return counts


def _sound_sample(index: int, seed: int) -> PlannedSample:
    rng = np.random.default_rng([seed, index, 0])
    scene = random_scene(rng)
    uid = hashlib.sha256(f"{seed}/{index}".encode()).hexdigest()[:32]
    return PlannedSample(uid, (seed, index, 1), scene, caption(scene, rng), Defect.NONE)


def _choose_defects(samples: int, rng: np.random.Generator) -> dict[Defect, list[int]]:
    """Indices by defect, disjoint, in random order; `Defect.NONE` holds the rest."""
    order = [int(index) for index in rng.permutation(samples)]
    groups: dict[Defect, list[int]] = {}
    for defect, count in defect_counts(samples).items():
        groups[defect], order = order[:count], order[count:]
    return groups | {Defect.NONE: order}


def _swap_captions(pool: list[PlannedSample], group: list[int]) -> None:
    """Hand each caption on, by the first rotation of the group in which no caption is true of its new image."""
    samples = [pool[index] for index in group]
    for shift in range(1, len(group)):
        donors = samples[shift:] + samples[:shift]
        if all(donor.scene.content() != taker.scene.content() for donor, taker in zip(donors, samples, strict=True)):
            break
    else:
        raise ValueError(f"no rotation of {len(group)} captions makes all of them wrong; take another seed")
    for index, donor in zip(group, donors, strict=True):
        pool[index] = replace(pool[index], text=donor.text)


def _duplicate(pool: list[PlannedSample], group: list[int], sound: list[int], rng: np.random.Generator) -> None:
    """Make each of the group show a sound sample's scene, each another one, with a caption in other words."""
    sources = rng.choice(sound, size=len(group), replace=False)
    for index, source in zip(group, sources, strict=True):
        original = pool[int(source)]
        pool[index] = replace(pool[index], scene=original.scene, text=_rephrased(original, rng))


def _rephrased(original: PlannedSample, rng: np.random.Generator) -> str:
    text = original.text
    while text == original.text:
        text = caption(original.scene, rng)
    return text
