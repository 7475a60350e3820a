"""Every kind of tower: a trained checkpoint read back, its losses, the estimators' accuracy, and whole jobs."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coreset.schemas.plan import Plan, PlannedModel
from coreset.spec.job import JobSpec
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage
from coreset_workers.checkpoints import files as checkpoint_files
from coreset_workers.checkpoints.optimizer import adam_preconditioner
from coreset_workers.data.loader import Loader
from coreset_workers.data.tar import ShardReader
from coreset_workers.model.clip import ClipModel
from coreset_workers.model.inputs import RUN, pairs_of_block, views
from coreset_workers.stages.plan import make_plan
from coreset_workers.stages.prepare import prepare_plan
from coreset_workers.stages.score import score_shard
from coreset_workers.stages.scorer import Scorer
from diffin.accuracy import agreement
from diffin.adjoint import Segment
from diffin.batch_loss import ContrastiveLoss
from diffin.contrastive import LossKind, Pairs
from diffin.prepare import Checkpoint, Problem, influence_directions, local_directions, prepare
from diffin.samples import ContrastiveLosses
from tests.workers.stages.towers import configs, inputs, module_of, save, train

CPU, SMALL, LARGE = torch.device("cpu"), 64, 49408
KINKED = ("resnet",)
"""Whose second differences need float64."""


def pairs(count: int, seed: int) -> Pairs:
    numbers = torch.Generator().manual_seed(seed)
    images, tokens = inputs(count, SMALL, numbers)
    ids = torch.arange(count) + 1000 * seed
    return Pairs((images * 60 + 120).clamp(0, 255).to(torch.uint8), tokens, ids, ids)


@pytest.fixture(scope="module", params=list(configs(SMALL)))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, str]:
    """A kind of tower, a module after a few steps, and its checkpoint."""
    module = module_of(configs(SMALL)[request.param])
    optimizer = train(module, SMALL, steps=4)
    path = tmp_path_factory.mktemp("towers") / "epoch_1.pt"
    save(module, optimizer, path, step=4)
    return request.param, module, str(path)


def built(kind: str, dtype: torch.dtype = torch.float32) -> ClipModel:
    return ClipModel.build(PlannedModel(name="tiny", config=configs(SMALL)[kind], source="spec"), CPU, dtype)


def test_the_checkpoint_encodes_as_the_module_itself_does(trained: tuple[str, Any, str]) -> None:
    kind, module, path = trained
    batch = pairs(5, seed=1)
    for dtype, bound in ((torch.float32, 1e-5), (torch.float64, 1e-5)):
        model = built(kind, dtype)
        weights = model.weights(checkpoint_files.load(path).state_dict, path)
        encoded = model.encoder(weights.fixed)(weights.theta, batch)
        with torch.no_grad():
            image = module.encode_image(model.normalised(batch.images).float(), normalize=True)
            text = module.encode_text(batch.tokens, normalize=True)
        assert encoded.image.dtype == encoded.text.dtype == dtype
        torch.testing.assert_close(encoded.image.float(), image, atol=bound, rtol=0)
        torch.testing.assert_close(encoded.text.float(), text, atol=bound, rtol=0)
        assert float(encoded.scale) == pytest.approx(module.logit_scale.exp().item(), rel=1e-6)
        assert float(encoded.bias) == pytest.approx(0 if module.logit_bias is None else module.logit_bias.item())


def test_the_losses_are_the_slow_formula(trained: tuple[str, Any, str]) -> None:
    kind, module, path = trained
    model, samples, reference = built(kind), pairs(3, seed=1), pairs(6, seed=2)
    weights = model.weights(checkpoint_files.load(path).state_dict, path)
    losses = ContrastiveLosses(model.encoder(weights.fixed), reference, model.kind)
    found = losses.losses(weights.theta, losses.context(weights.theta), samples)
    expected = [slow_loss(module, model, samples[i : i + 1], reference) for i in range(3)]
    torch.testing.assert_close(found, torch.stack(expected).double(), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def slow_loss(module: Any, model: ClipModel, sample: Pairs, reference: Pairs) -> Tensor:
    """The loss of one sample before its negatives, from the module's own logits."""
    images, tokens = torch.cat([sample.images, reference.images]), torch.cat([sample.tokens, reference.tokens])
    image = module.encode_image(model.normalised(images), normalize=True)
    text = module.encode_text(tokens, normalize=True)
    logits = module.logit_scale.exp() * image @ text.T + (0 if module.logit_bias is None else module.logit_bias)
    if model.kind is LossKind.SIGLIP:
        signs = -torch.ones(len(images))
        signs[0] = 1
        return -(F.logsigmoid(signs * logits[0]).sum() + F.logsigmoid(signs * logits[:, 0]).sum()) / 2
    return -(logits[0].log_softmax(0)[0] + logits[:, 0].log_softmax(0)[0]) / 2


def test_the_fast_path_passes_the_gate_with_adams_preconditioner(trained: tuple[str, Any, str]) -> None:
    kind, _, path = trained
    names = ("diffin", "diffin_eq9", "tracin")
    dtype = torch.float64 if kind in KINKED else torch.float32
    loaded, model, model64 = checkpoint_files.load(path), built(kind, dtype), built(kind, torch.float64)
    weights, weights64 = (m.weights(loaded.state_dict, path) for m in (model, model64))
    by_name = adam_preconditioner(loaded.optimizer, model.shapes, model.layout.names)
    assert by_name is not None
    encode, encode64 = model.encoder(weights.fixed), model64.encoder(weights64.fixed)
    reference, probes = pairs(12, seed=2), pairs(16, seed=3)
    loss = ContrastiveLoss(encode, reference, model.kind, batch_size=8)
    preconditioner = model.layout.flatten(by_name).to(weights.theta)
    checkpoint = Checkpoint(
        Segment(weights.theta, 0.01, [loss], preconditioner),
        4,
        2e-3,
        loss,
        None,
        ContrastiveLosses(encode, reference, model.kind),
        ContrastiveLosses(encode64, reference, model.kind),
    )
    problem = Problem(probes, probes, names, 64)
    influence = influence_directions(problem, [checkpoint])
    assert influence is not None
    directions = local_directions(problem, checkpoint) | {"influence": influence[0]}
    prepared = prepare(problem, checkpoint, directions, 1, centre=False)
    for name in names:
        found = agreement(prepared.fast[name], prepared.exact[name])
        assert found.passes(), (name, found, prepared.steps[name])


def test_the_captioning_decoder_of_coca_does_not_count() -> None:
    model = built("coca")
    assert not any(name.startswith("text_decoder.") for name in model.layout.names)
    assert any(name.startswith("text_decoder.") for name in model.shapes)
    module = module_of(configs(SMALL)["coca"]).eval()
    batch = pairs(2, seed=1)
    ends = module.encode_image(model.normalised(batch.images)).sum() + module.encode_text(batch.tokens).sum()
    names, values = zip(*module.named_parameters(), strict=True)
    slopes = torch.autograd.grad(ends, values, allow_unused=True)
    unused = {name for name, slope in zip(names, slopes, strict=True) if slope is None}
    assert unused - {"logit_scale"} == set(names) - set(model.layout.names)


def test_a_tied_weight_is_counted_once_and_moves_everywhere() -> None:
    model = built("vit")
    blocks: Any = model.module.get_submodule("visual.transformer.resblocks")
    blocks[1].ln_2.weight = blocks[0].ln_2.weight
    tied = type(model)(**{**vars(model), "layout": model.layout.of(dict(model.module.named_parameters()))})
    weights = tied.weights(model.module.state_dict(), "a.pt")
    assert "visual.transformer.resblocks.1.ln_2.weight" not in {*weights.fixed, *tied.layout.names}
    moved = tied.encoder(weights.fixed)(weights.theta * 1.1, pairs(3, seed=1))
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.mul_(1.1)
    plain: Any = model.module
    image = plain.encode_image(model.normalised(pairs(3, seed=1).images), normalize=True)
    torch.testing.assert_close(moved.image, image, rtol=1e-4, atol=1e-5)


def test_a_scale_at_open_clips_limit_is_not_clamped_at_a_moved_point() -> None:
    """The trainer clamps logit_scale after each step; the model itself does not, so the loss is smooth there."""
    model = built("vit")
    weights = model.weights(module_of(configs(SMALL)["vit"]).state_dict(), "a.pt")
    theta = weights.theta.clone()
    model.layout.unflatten(theta)["logit_scale"].fill_(4.6052 + 0.1)
    assert float(model.encoder(weights.fixed)(theta, pairs(2, seed=1)).scale) > 110


@pytest.fixture(scope="module", params=["resnet", "coca"])
def whole_job(
    request: pytest.FixtureRequest, tiny_pool: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Plan, Storage, list[str]]:
    """A pool scored at two checkpoints."""
    folder = tmp_path_factory.mktemp("whole")
    config = configs(LARGE)[request.param]
    module = module_of(config)
    for epoch in (1, 2):
        save(module, train(module, LARGE, steps=4, seed=epoch), folder / f"epoch_{epoch}.pt", step=4 * epoch)
    files = [{"uri": str(folder / f"epoch_{epoch}.pt")} for epoch in (1, 2)]
    spec = JobSpec.model_validate(
        {
            "pool": {"shards": [str(tiny_pool / "000000.tar"), str(tiny_pool / "000001.tar")]},
            "checkpoints": {"files": files},
            "model": {"config": config},
            "reference": {"size": 8},
            "scores": ["diffin", "clip_score", "loss"],
            "select": {"k": 10},
        }
    )
    plan, warnings = make_plan(spec)
    return request.param, folder, plan, Storage(str(folder / "results")), warnings


@pytest.mark.slow
def test_a_whole_job_counts_the_towers_and_uses_each_checkpoints_statistics(
    whole_job: tuple[str, Path, Plan, Storage, list[str]],
) -> None:
    kind, folder, plan, storage, warnings = whole_job
    loader = Loader(views(plan), plan.caption_field, processes=0)
    prepare_plan(plan, storage, loader, CPU, lambda stage, fraction: None)
    scorer = Scorer(plan, storage, CPU)
    score_shard(scorer, loader, plan.shards[0], lambda fraction: None)
    ready = scorer.preparation
    if kind == "coca":
        assert ready.parameters_counted < ready.parameters_total
        assert plan.parameters is not None
        assert not any(name.startswith("text_decoder.") for name in plan.parameters)
        assert any("text_decoder" in warning for warning in warnings)
    else:
        assert ready.parameters_counted == ready.parameters_total
    assert all(a.worst_relative_error < 0.02 for a in ready.accuracy.values())
    assert all(found.error < 0.1 for steps in ready.steps for found in steps.values())
    check_losses(plan, storage, folder, loader, ready.reference_uids)


def check_losses(plan: Plan, storage: Storage, folder: Path, loader: Loader, reference_uids: list[str]) -> None:
    """Compare the part's losses with those of plain modules, each with its own checkpoint and running statistics."""
    rows = {
        r["uid"]: r for r in pq.read_table(storage.path(PlanFolder(plan.id).part(0))).to_pylist() if r["status"] == "ok"
    }
    found: dict[str, Pairs] = {}
    for shard in plan.shards:
        for block in loader.blocks(ShardReader(shard.uri), 64):
            batch = pairs_of_block(block, RUN)
            found |= {block.samples[at].uid: batch[i : i + 1] for i, at in enumerate(block.good)}
    model = ClipModel.build(plan.model, CPU)
    modules = []
    for epoch in (1, 2):
        module: Any = module_of(dict(plan.model.config))
        module.load_state_dict(torch.load(folder / f"epoch_{epoch}.pt", weights_only=True)["state_dict"])
        modules.append(module.eval())
    for uid in list(rows)[:5]:
        sample = found[uid]
        others = [found[o] for o in reference_uids if found[o].captions != sample.captions]
        reference = Pairs(
            *(torch.cat([getattr(o, name) for o in others]) for name in ("images", "tokens", "ids", "captions"))
        )
        losses = [float(slow_loss(module, model, sample, reference)) for module in modules]
        assert rows[uid]["loss"] == pytest.approx(-sum(losses) / 2, rel=1e-4)
