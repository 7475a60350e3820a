"""Configurations that ask for too much, or for what is not theirs, are refused before anything is built."""

import resource
from copy import deepcopy
from typing import Any

import pytest

from coreset.access.locations import Locations
from coreset.errors import CheckpointUnusable, CoresetError, LocationForbidden
from coreset.schemas.plan import PlannedModel
from coreset_workers.checkpoints.architecture import registered
from coreset_workers.data import opening as files
from coreset_workers.model.clip import build
from tests.conftest import TINY_MODEL


def planned(**changes: Any) -> PlannedModel:
    """Return the tiny model with `tower__name=value` changed."""
    config = deepcopy(TINY_MODEL)
    for path, value in changes.items():
        *towers, name = path.split("__")
        where: Any = config
        for tower in towers:
            where = where.setdefault(tower, {})
        where[name] = value
    return PlannedModel(name="tiny", config=config, source="spec")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"vision_cfg__width": 10**7}, "width is too large"),
        ({"vision_cfg__layers": 10**6}, "layers is too large"),
        ({"vision_cfg__layers": [600, 600]}, "layers is too large"),
        ({"vision_cfg__image_size": [10_000, 10_000]}, "image_size is too large"),
        ({"text_cfg__context_length": 10**9}, "context_length is too large"),
        ({"embed_dim": float("inf")}, "embed_dim is too large"),
        ({"embed_dim": float("nan")}, "embed_dim is too large"),
        ({"x": [{}] * 0 + [0] * 2000}, "too many or too deep"),
        ({"text_cfg__tokenizer_kwargs": {"trust_remote_code": True}}, "trust_remote_code is not allowed"),
    ],
)
def test_what_is_plainly_too_much_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(CheckpointUnusable, match=why):
        build(planned(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"vision_cfg__width": 960_000, "vision_cfg__head_width": 64, "vision_cfg__layers": 12},
        {"text_cfg__width": 999_999, "text_cfg__vocab_size": 999_999},
        {"text_cfg__context_length": 1_000_000, "vision_cfg__layers": 1},
    ],
)
def test_terabytes_are_counted_and_not_taken(changes: dict[str, Any]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointUnusable, match=r"its weights take [\d,]+ GB"):
        build(planned(**changes))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


@pytest.mark.parametrize("name", ["hf_model_name", "hf_tokenizer_name"])
@pytest.mark.parametrize("value", ["/etc", "../x", "a/../b", "hf-hub:a/b", "a/b/c", "~/x", "x\n"])
def test_names_of_hubs_are_no_paths(name: str, value: Any) -> None:
    reason = "has no tokenizer" if (name, value) == ("hf_tokenizer_name", "/etc") else "not a hub's name"
    with pytest.raises(CoresetError, match=reason):
        build(planned(**{f"text_cfg__{name}": value}))


def test_a_hub_that_is_not_allowed_is_not_asked() -> None:
    before = files.allowed()
    files.allow(Locations.parse("/pools"))
    try:
        with pytest.raises(LocationForbidden, match="hf://bert-base"):
            build(planned(text_cfg__hf_model_name="bert-base"))
    finally:
        files.allow(before)


@pytest.mark.parametrize("name", ["hf-hub:org/model", "local-dir:/etc", "local-dir:x"])
def test_names_with_a_scheme_are_no_architectures(name: str) -> None:
    with pytest.raises(CheckpointUnusable, match="not an architecture"):
        registered(name)


@pytest.mark.parametrize("name", ["ViT-B-32", "RN50", "ViT-L-14", "coca_ViT-B-32"])
def test_known_architectures_pass(name: str) -> None:
    from coreset_workers.model.limits import check_config

    check_config(PlannedModel(name=name, config=registered(name), source="params.txt"))


def test_all_of_open_clips_own_architectures_pass() -> None:
    import open_clip

    from coreset_workers.model.limits import check_config

    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        if config is not None:
            check_config(PlannedModel(name=name, config=config, source="spec"))
