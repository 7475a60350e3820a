"""Models with a Hugging Face tokenizer: a clear refusal without `transformers`, and jobs with a local folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from coreset.access.locations import Locations
from coreset.errors import CheckpointUnusable, LocationForbidden
from coreset.schemas.plan import PlannedModel
from coreset.spec.job import JobSpec
from coreset.storage.storage import Storage
from coreset_workers.checkpoints.architecture import registered
from coreset_workers.data import opening
from coreset_workers.data.loader import Loader
from coreset_workers.model import limits
from coreset_workers.model.clip import ClipModel, build, register
from coreset_workers.model.inputs import views
from coreset_workers.model.tokenizers import load_tokenizer
from coreset_workers.stages.plan import make_plan
from coreset_workers.stages.prepare import prepare_plan
from coreset_workers.stages.score import Scorer, score_shard
from diffin.contrastive import LossKind
from tests.field.trainer import TINY
from tests.workers.stages.towers import module_of, save, train

CPU = torch.device("cpu")
WORDS = ["<pad>", "<unk>", "a", "photo", "of", "red", "green", "blue", "circle", "square"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer's folder as `save_pretrained` leaves it."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def siglip(tokenizer: str) -> dict[str, Any]:
    """A tiny SigLIP: a text tower of its own, a logit bias, and a Hugging Face tokenizer."""
    text = {**TINY["text_cfg"], "context_length": 24, "hf_tokenizer_name": tokenizer, "no_causal_mask": True}
    return {**TINY, "text_cfg": text, "custom_text": True, "init_logit_bias": -10}


def planned(tokenizer: str) -> PlannedModel:
    return PlannedModel(name="tiny-SigLIP", config=siglip(tokenizer), source="spec")


@pytest.fixture
def without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    found = limits.importlib.util.find_spec
    monkeypatch.setattr(
        limits.importlib.util, "find_spec", lambda name: None if name == "transformers" else found(name)
    )


def test_every_model_with_such_a_tokenizer_is_refused_with_the_name_of_the_extra(without_transformers: None) -> None:
    refused = 0
    for name in open_clip.list_models():
        text: Any = registered(name)["text_cfg"]
        if not (text.get("hf_tokenizer_name") or text.get("hf_model_name")):
            continue
        with pytest.raises(CheckpointUnusable, match=r"pip install 'coreset-workers\[hf\]'"):
            build(PlannedModel(name=name, config=registered(name), source="params.txt"))
        refused += 1
    assert refused >= 49


def test_a_model_with_open_clips_own_tokenizer_needs_no_extra(without_transformers: None) -> None:
    build(PlannedModel(name="tiny", config=TINY, source="spec"))


def test_a_job_with_a_siglip_and_a_local_tokenizer_is_scored(folder: Path, tiny_pool: Path, tmp_path: Path) -> None:
    config = siglip(str(folder))
    module = module_of({**config, "text_cfg": {**config["text_cfg"], "vocab_size": 49408}})
    save(module, train(module, 49408, steps=2), tmp_path / "epoch_1.pt", step=2)
    spec = JobSpec.model_validate(
        {
            "pool": {"shards": [str(tiny_pool / "000000.tar")]},
            "checkpoints": {"files": [str(tmp_path / "epoch_1.pt")]},
            "model": {"config": config},
            "scores": ["clip_score", "tracin"],
            "reference": {"size": 8},
            "select": {"k": 4, "by": "tracin"},
        }
    )
    plan, _ = make_plan(spec)
    storage = Storage(str(tmp_path / "results"))
    loader = Loader(views(plan), plan.caption_field, processes=0)
    prepare_plan(plan, storage, loader, CPU, lambda stage, fraction: None)
    summary = score_shard(Scorer(plan, storage, CPU), loader, plan.shards[0], lambda fraction: None)
    assert summary.scored > 20
    assert ClipModel.build(plan.model, CPU).kind is LossKind.SIGLIP


def test_the_tokens_are_those_of_the_folder(folder: Path) -> None:
    model = planned(str(folder))
    tokens = load_tokenizer(model, register(model))(["a red circle"])[0].tolist()
    assert tokens == [2, 5, 8] + [0] * 21


@pytest.fixture
def only(tmp_path: Path) -> Iterator[Path]:
    """A folder that is the only one that may be read."""
    before = opening.allowed()
    (tmp_path / "allowed").mkdir()
    opening.allow(Locations.parse(str(tmp_path / "allowed")))
    yield tmp_path / "allowed"
    opening.allow(before)


def test_a_folder_or_a_hub_that_is_not_allowed_is_not_read(folder: Path, only: Path) -> None:
    for tokenizer in (str(folder), "google/siglip"):
        with pytest.raises(LocationForbidden, match="not allowed"):
            build(planned(tokenizer))
    (only / "tokenizer").mkdir()
    (only / "tokenizer" / "tokenizer.json").symlink_to(folder / "tokenizer.json")
    with pytest.raises(LocationForbidden, match="leads out of the allowed folders"):
        build(planned(str(only / "tokenizer")))


def test_a_folder_without_a_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnusable, match=r"has no tokenizer_config\.json or tokenizer\.json"):
        build(planned(str(tmp_path)))
    with pytest.raises(CheckpointUnusable, match="is not a folder that can be read"):
        build(planned(str(tmp_path / "nothing")))


@pytest.mark.parametrize("content", ["{", "{}", '{"auto_map": {"AutoTokenizer": ["code.Evil", null]}}'])
def test_a_damaged_tokenizer_or_one_with_code_is_refused_with_the_way_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(content)
    (tmp_path / "code.py").write_text("raise SystemExit('it was run')")
    model = planned(str(tmp_path))
    with pytest.raises(CheckpointUnusable, match=r"cannot be loaded .* `save_pretrained`"):
        load_tokenizer(model, register(model))
