"""Numbers in checkpoint files cost no time, and a tag of weights reaches no place that is not allowed."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from coreset.access.locations import Locations
from coreset.errors import CheckpointUnusable, LocationForbidden
from coreset.schemas.plan import PlannedModel
from coreset.spec.job import CheckpointFile, CheckpointsSpec
from coreset.spec.model import ModelSpec
from coreset_workers.checkpoints.run import MAX_STEPS, plan_checkpoints
from coreset_workers.data import opening
from coreset_workers.model.limits import check_tag
from coreset_workers.model.tokenizers import load_tokenizer
from tests.field.trainer import TINY
from tests.fuzz.params import mutated, read


@pytest.fixture
def only_pools() -> Iterator[None]:
    before = opening.allowed()
    opening.allow(Locations.parse("/pools"))
    yield
    opening.allow(before)


@pytest.mark.parametrize("step", [10**12, MAX_STEPS + 1, -1])
def test_a_step_that_no_training_reaches_is_refused(tmp_path: Path, step: int) -> None:
    (tmp_path / "params.txt").write_text("model: ViT-B-32\nlr: 0.1\nwarmup: 1\nepochs: 2\n")
    torch.save({"state_dict": {"a": torch.ones(1)}, "epoch": 1, "global_step": step}, tmp_path / "epoch_1.pt")
    with pytest.raises(CheckpointUnusable, match=r"the step -?[\d,]+ \(global_step\) is no training's; expected 0 to"):
        plan_checkpoints(CheckpointsSpec(run=str(tmp_path)), ModelSpec(config=TINY))


def test_a_step_of_the_spec_is_bounded_too(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pt")
    file = CheckpointFile(uri=str(tmp_path / "a.pt"), step=10**12, lr=0.1)
    with pytest.raises(CheckpointUnusable, match=r"\(spec\) is no training's"):
        plan_checkpoints(CheckpointsSpec(files=[file]), ModelSpec(config=TINY))


@pytest.mark.parametrize(
    ("name", "tag", "place"),
    [
        ("ViT-B-32", "openai", "hf://timm/"),
        ("ViT-B-32", "laion2b_s34b_b79k", "hf://laion/"),
        ("RN50", "yfcc15m", ""),
    ],
)
@pytest.mark.usefixtures("only_pools")
def test_the_weights_of_a_tag_are_not_fetched_from_a_place_that_is_not_allowed(name: str, tag: str, place: str) -> None:
    with pytest.raises(LocationForbidden, match=f"would be fetched from {place}.*CORESET_ALLOWED_URIS.*weights file"):
        check_tag(name, tag)


def test_a_tag_is_allowed_by_its_prefix() -> None:
    before = opening.allowed()
    opening.allow(Locations.parse("hf://laion"))
    try:
        check_tag("ViT-B-32", "laion2b_s34b_b79k")
        check_tag("ViT-B-32", "/weights.pt")
    finally:
        opening.allow(before)


@pytest.mark.usefixtures("only_pools")
def test_the_vocabulary_of_a_model_called_siglip_is_not_fetched_either() -> None:
    model = PlannedModel(name="my-siglip", config=TINY, source="spec")
    with pytest.raises(LocationForbidden, match=r"storage\.googleapis\.com"):
        load_tokenizer(model, "my-siglip")


def test_mutated_options_of_a_run_are_planned_with_finite_numbers_or_refused(tmp_path: Path) -> None:
    found: Counter[str] = Counter()
    for seed in range(150):
        found += read(tmp_path, mutated(seed))
    assert min(found["planned"], found["refused"]) > 10
