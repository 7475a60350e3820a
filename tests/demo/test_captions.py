"""Scenes and captions: what is said is true and complete."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.captions import COLOUR_WORDS, KIND_WORDS, LAYOUT_TEMPLATES, PATTERN_WORDS, PLACE_WORDS, caption
from demo.drawing import draw
from demo.scenes import LAYOUTS, PLACES, Scene, Thing, random_scene
from demo.shapes import SHAPES, coverage
from demo.textures import PALETTE, PATTERNS

seeds = st.integers(0, 2**32 - 1)
LONGEST_CAPTION_WORDS = 32


def scene_of(seed: int) -> Scene:
    return random_scene(np.random.default_rng(seed))


def mentions(text: str, thing: Thing) -> bool:
    """Whether some word for the object's kind and some word for its colour stand in the text."""
    words = set(text.replace(",", " ").split())
    return not words.isdisjoint(KIND_WORDS[thing.kind]) and not words.isdisjoint(COLOUR_WORDS[thing.colour])


@given(seeds, seeds)
def test_a_caption_mentions_every_object_by_kind_and_colour(scene_seed: int, caption_seed: int) -> None:
    scene = scene_of(scene_seed)
    text = caption(scene, np.random.default_rng(caption_seed))
    assert all(mentions(text, thing) for thing in scene.things), text
    assert len(text.split()) <= LONGEST_CAPTION_WORDS


@given(seeds, seeds)
def test_a_caption_names_no_kind_that_is_not_drawn(scene_seed: int, caption_seed: int) -> None:
    scene = scene_of(scene_seed)
    words = set(caption(scene, np.random.default_rng(caption_seed)).replace(",", " ").split())
    drawn = {thing.kind for thing in scene.things}
    assert all(words.isdisjoint(KIND_WORDS[kind]) for kind in SHAPES if kind not in drawn)


@given(seeds)
def test_objects_stand_inside_the_image_and_apart_from_its_background(seed: int) -> None:
    scene = scene_of(seed)
    assert 1 <= len(scene.things) <= 3
    assert len({thing.kind for thing in scene.things}) == len(scene.things)
    for thing in scene.things:
        assert thing.colour != scene.colour
        assert thing.radius <= thing.x <= 1 - thing.radius
        assert thing.radius <= thing.y <= 1 - thing.radius


@given(seeds)
def test_left_and_above_are_true(seed: int) -> None:
    scene = scene_of(seed)
    if scene.layout in ("row", "long row"):
        across = [thing.x for thing in scene.things]
        assert across == sorted(across)
    if scene.layout in ("column", "long column"):
        down = [thing.y for thing in scene.things]
        assert down == sorted(down)
    if scene.layout == "pyramid":
        assert scene.things[0].y < min(thing.y for thing in scene.things[1:])


@pytest.mark.parametrize(
    ("words", "drawn"),
    [
        (KIND_WORDS, SHAPES),
        (COLOUR_WORDS, PALETTE),
        (PATTERN_WORDS, PATTERNS),
        (PLACE_WORDS, PLACES),
        (LAYOUT_TEMPLATES, LAYOUTS),
    ],
)
def test_there_are_words_for_exactly_what_can_be_drawn(words: dict[str, object], drawn: dict[str, object]) -> None:
    assert words.keys() == drawn.keys()


@pytest.mark.parametrize("words", [KIND_WORDS, COLOUR_WORDS, PATTERN_WORDS])
def test_no_word_means_two_things(words: dict[str, tuple[str, ...]]) -> None:
    every_word = [word for synonyms in words.values() for word in synonyms]
    assert len(every_word) == len(set(every_word))


@pytest.mark.parametrize("kind", SHAPES)
def test_a_shape_fills_a_fair_part_of_its_square_and_resembles_no_other(kind: str) -> None:
    steps = (np.arange(64, dtype=np.float32) + 0.5) / 32 - 1
    shape = coverage(kind, *np.meshgrid(steps, steps))
    assert shape.shape == (32, 32)
    assert 0.15 < shape.mean() < 0.75
    others = [coverage(other, *np.meshgrid(steps, steps)) for other in SHAPES if other != kind]
    assert min(np.abs(shape - other).mean() for other in others) > 0.08


def test_an_object_is_drawn_in_its_colour_at_its_place() -> None:
    circle = Thing("circle", "red", "plain", "big", x=0.7, y=0.5, radius=0.25, angle=0.0)
    image = draw(Scene(80, 64, (circle,), "right", "blue", "plain", texture_seed=3))
    pixels = np.asarray(image, dtype=int)
    assert image.size == (80, 64)
    red, _, blue = pixels[32, 56]
    assert red > blue + 80
    red, _, blue = pixels[10, 8]
    assert blue > red + 40
