"""The scores of a part against plain open_clip and slow formulas in float64."""

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow.parquet as pq
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor

from coreset.schemas.part import part_schema
from coreset.schemas.plan import Plan, PlannedModel
from coreset.spec.scores import ESTIMATORS, Score
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage
from coreset.uids import random_score
from coreset_workers.data.loader import Loader
from coreset_workers.influence import prepared_files as prepared
from coreset_workers.model.inputs import views
from coreset_workers.stages.prepare import prepare_plan
from coreset_workers.stages.score import score_shard
from coreset_workers.stages.scorer import Scorer
from demo.trainset import usable_samples

Row = dict[str, Any]


@dataclass(frozen=True)
class Plain:
    """A checkpoint's outputs by plain open_clip, in float64, by uid."""

    image: dict[str, Tensor]
    text: dict[str, Tensor]
    scale: float

    def cosine(self, image: str, text: str) -> float:
        return float(self.image[image] @ self.text[text])

    def other_logits(self, uid: str, others: list[str]) -> tuple[list[float], list[float]]:
        """Scaled cosines of the image with other texts, and of the text with other images."""
        return (
            [self.scale * self.cosine(uid, other) for other in others],
            [self.scale * self.cosine(other, uid) for other in others],
        )


@pytest.fixture(scope="module")
def plain(tiny_pool: Path, tiny_run: Path, rows: list[Row]) -> list[Plain]:
    """Every checkpoint's outputs, from files that this test reads itself."""
    uids = {row["key"]: row["uid"] for row in rows}
    samples = [(uids[key], image, caption) for key, image, caption in usable_samples(tiny_pool)]
    return [_plain(tiny_run, epoch, samples) for epoch in (1, 2)]


def _plain(run: Path, epoch: int, samples: list[tuple[str, bytes, str]]) -> Plain:
    architecture = json.loads((run / "open_clip_config.json").read_text())
    model = open_clip.CLIP(**architecture["model_cfg"])
    model.load_state_dict(torch.load(run / f"checkpoints/epoch_{epoch}.pt", weights_only=True)["state_dict"])
    model.eval()
    transform = image_transform_v2(PreprocessCfg(**architecture["preprocess_cfg"]), is_train=False)
    tokenizer = open_clip.SimpleTokenizer(context_length=architecture["model_cfg"]["text_cfg"]["context_length"])
    with torch.no_grad():
        images = torch.stack([transform(Image.open(io.BytesIO(image)).convert("RGB")) for _, image, _ in samples])
        image = model.encode_image(images, normalize=True).double()
        text = model.encode_text(tokenizer([caption for _, _, caption in samples]), normalize=True).double()
    uids = [uid for uid, _, _ in samples]
    return Plain(
        dict(zip(uids, image, strict=True)), dict(zip(uids, text, strict=True)), model.logit_scale.exp().item()
    )


def softmax_loss(own: float, others: list[float]) -> float:
    return math.log(math.fsum(math.exp(other - own) for other in [own, *others]))


def test_clip_score_is_the_last_checkpoints_cosine(good: list[Row], plain: list[Plain]) -> None:
    expected = [plain[-1].cosine(row["uid"], row["uid"]) for row in good]
    np.testing.assert_allclose([row["clip_score"] for row in good], expected, atol=2e-6)


def test_neg_clip_loss_is_the_slow_formula(good: list[Row], plain: list[Plain], plan: Plan, scorer: Scorer) -> None:
    reference, last = scorer.preparation.reference_uids, plain[-1]
    expected = []
    for uid in (row["uid"] for row in good):
        others = [other for other in reference if other != uid]
        losses = [softmax_loss(last.scale * last.cosine(uid, uid), o) for o in last.other_logits(uid, others)]
        expected.append(-sum(losses) / 2 / last.scale)
    np.testing.assert_allclose([row["neg_clip_loss"] for row in good], expected, atol=2e-6)


def test_loss_is_the_slow_formula_averaged_over_the_checkpoints(
    good: list[Row], plain: list[Plain], scorer: Scorer
) -> None:
    captions = {row["uid"]: row["caption"] for row in good}
    expected = []
    for uid, caption in captions.items():
        others = [o for o in scorer.preparation.reference_uids if o != uid and captions[o] != caption]
        losses = [softmax_loss(p.scale * p.cosine(uid, uid), o) for p in plain for o in p.other_logits(uid, others)]
        expected.append(-sum(losses) / 4)
    np.testing.assert_allclose([row["loss"] for row in good], expected, rtol=1e-5)


def test_an_estimator_is_the_sum_of_its_terms_by_checkpoint(good: list[Row]) -> None:
    for score in ESTIMATORS:
        terms = np.array([row[f"{score}_by_checkpoint"] for row in good], dtype=np.float64)
        total = np.array([row[score] for row in good])
        np.testing.assert_allclose(total, terms.sum(1), atol=1e-6 * np.abs(terms).max())
        assert np.unique(total).size > len(good) / 2


def test_random_depends_on_uid_and_seed_alone(plan: Plan, good: list[Row]) -> None:
    expected = [random_score(row["uid"], plan.seed) for row in good]
    np.testing.assert_allclose([row["random"] for row in good], expected, rtol=1e-6)


@pytest.fixture
def clip_plan(plan: Plan, tiny_run: Path) -> Plan:
    """The same pool, CLIP scores only, by the first epoch's weights as a model of their own."""
    clip_model = PlannedModel.model_validate({**plan.model.model_dump(), "name": "other"})
    return plan.model_copy(
        update={
            "clip_model": clip_model,
            "clip_pretrained": str(tiny_run / "checkpoints" / "epoch_1.pt"),
            "scores": [Score.CLIP_SCORE, Score.NEG_CLIP_LOSS],
        }
    )


@pytest.mark.parametrize("with_run", [True, False])
def test_a_clip_model_of_its_own_makes_the_clip_scores(
    tmp_path: Path, clip_plan: Plan, plain: list[Plain], with_run: bool
) -> None:
    if not with_run:
        clip_plan = clip_plan.model_copy(update={"checkpoints": [], "model": clip_plan.clip_model})
    storage, device = Storage(str(tmp_path)), torch.device("cpu")
    loader = Loader(views(clip_plan), None, processes=0)
    prepare_plan(clip_plan, storage, loader, device, lambda stage, fraction: None)
    assert prepared.load_preparation(storage, clip_plan).accuracy == {}
    reported: list[float] = []
    score_shard(Scorer(clip_plan, storage, device), loader, clip_plan.shards[0], reported.append)
    part = pq.read_table(storage.path(PlanFolder(clip_plan.id).part(0)))
    assert part.schema.equals(part_schema(clip_plan))
    good = [row for row in part.to_pylist() if row["status"] == "ok"]
    expected = [plain[0].cosine(row["uid"], row["uid"]) for row in good]
    np.testing.assert_allclose([row["clip_score"] for row in good], expected, atol=2e-6)
    assert reported[-1] == 1.0
