"""Captions of a scene: many true ways to say the same thing; every object's kind and colour is always said."""

from bisect import bisect
from collections.abc import Sequence

import numpy as np

from demo.scenes import Scene, Thing

KIND_WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "ring": ("ring", "hoop"),
    "cross": ("cross", "plus"),
    "heart": ("heart",),
    "moon": ("moon", "crescent"),
    "tree": ("tree", "fir"),
    "house": ("house", "hut"),
    "flower": ("flower", "blossom"),
    "fish": ("fish",),
}
COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red",),
    "orange": ("orange",),
    "yellow": ("yellow",),
    "green": ("green",),
    "turquoise": ("turquoise", "teal"),
    "blue": ("blue",),
    "purple": ("purple", "violet"),
    "pink": ("pink",),
    "brown": ("brown",),
    "black": ("black",),
    "grey": ("grey", "gray"),
    "white": ("white",),
}
PATTERN_WORDS: dict[str, tuple[str, ...]] = {
    "plain": ("plain", "solid"),
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "spotted"),
    "checked": ("checked", "checkered"),
    "speckled": ("speckled", "noisy"),
    "shaded": ("shaded", "fading"),
}
SIZE_WORDS: dict[str, tuple[str, ...]] = {
    "small": ("small", "little", "tiny"),
    "big": ("big", "large", "huge"),
}
PLACE_WORDS: dict[str, tuple[str, ...]] = {
    "middle": ("in the middle", "in the centre"),
    "left": ("on the left", "at the left edge"),
    "right": ("on the right", "at the right edge"),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
    "top left": ("in the top left corner", "at the upper left"),
    "top right": ("in the top right corner", "at the upper right"),
    "bottom left": ("in the bottom left corner", "at the lower left"),
    "bottom right": ("in the bottom right corner", "at the lower right"),
}
LAYOUT_TEMPLATES: dict[str, tuple[str, ...]] = {
    "row": ("{0} left of {1}", "{1} to the right of {0}", "{0} beside {1}", "{0} and {1} side by side"),
    "column": ("{0} above {1}", "{1} below {0}", "{0} over {1}", "{1} under {0}"),
    "long row": ("{0}, {1} and {2} in a row", "{1} between {0} and {2}", "{0}, then {1}, then {2}"),
    "long column": ("{0} above {1} above {2}", "{0}, {1} and {2} in a column", "{2} under {1} under {0}"),
    "pyramid": ("{0} above {1} and {2}", "{1} and {2} below {0}", "{0} over {1} and {2}"),
}
FRAMES = ("{body} {on} {ground}", "{ground} with {body}", "a picture of {body} {on} {ground}", "{body}, {ground}")
FRAME_ODDS = (0.55, 0.7, 0.9)
"""Bounds of a uniform number between one frame and the next."""

SYNONYM_ODDS = 0.25
DETAIL_ODDS = 0.7


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Say what the scene shows, in one of its many phrasings."""
    names = [_name(thing, rng, brief=len(scene.things) == 3) for thing in scene.things]
    frame = FRAMES[bisect(FRAME_ODDS, rng.random())]
    on = _usual(("on", "in front of"), rng)
    return frame.format(body=_body(scene, names, rng), on=on, ground=_ground(scene, rng))


def _body(scene: Scene, names: Sequence[str], rng: np.random.Generator) -> str:
    if len(names) > 1:
        return _usual(LAYOUT_TEMPLATES[scene.layout], rng, odds=0.6).format(*names)
    if rng.random() < DETAIL_ODDS:
        return f"{names[0]} {_usual(PLACE_WORDS[scene.layout], rng)}"
    return names[0]


def _name(thing: Thing, rng: np.random.Generator, *, brief: bool) -> str:
    """An object's noun phrase: colour and kind always, size and pattern mostly, only one of them when `brief`."""
    says_size = thing.size in SIZE_WORDS and rng.random() < DETAIL_ODDS
    says_pattern = thing.pattern != "plain" and rng.random() < DETAIL_ODDS and not (brief and says_size)
    words = [_usual(SIZE_WORDS[thing.size], rng)] if says_size else []
    pattern = [_usual(PATTERN_WORDS[thing.pattern], rng)] if says_pattern else []
    colour = [_usual(COLOUR_WORDS[thing.colour], rng)]
    words += pattern + colour if rng.random() < SYNONYM_ODDS else colour + pattern
    return _with_article([*words, _usual(KIND_WORDS[thing.kind], rng)])


def _ground(scene: Scene, rng: np.random.Generator) -> str:
    colour = _usual(COLOUR_WORDS[scene.colour], rng)
    noun = _usual(("background", "backdrop"), rng)
    if rng.random() < DETAIL_ODDS:
        return _with_article([_usual(PATTERN_WORDS[scene.pattern], rng), colour, noun])
    return _with_article([colour, noun])


def _with_article(words: Sequence[str]) -> str:
    article = "an" if words[0][0] in "aeio" else "a"
    return " ".join([article, *words])


def _usual(words: Sequence[str], rng: np.random.Generator, odds: float = SYNONYM_ODDS) -> str:
    """The first word mostly; with probability `odds` any of them."""
    return words[int(rng.integers(len(words)))] if rng.random() < odds else words[0]
