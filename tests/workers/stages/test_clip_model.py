"""The model as a function of theta, against the plain open_clip module; models that do not fit are named."""

import socket
from copy import deepcopy
from typing import Any

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn

from coreset.errors import CheckpointUnusable
from coreset.schemas.plan import PlannedModel
from coreset_workers.model.clip import ClipModel, view_functions
from diffin.contrastive import Encoded, LossKind, Pairs

CPU = torch.device("cpu")
TEXT: dict[str, Any] = {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
VIT: dict[str, Any] = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": TEXT,
}
RESNET: dict[str, Any] = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16, "head_width": 16, "patch_size": None},
    "text_cfg": TEXT,
}
SIGLIP: dict[str, Any] = {**VIT, "init_logit_bias": -10, "custom_text": True}


def planned(config: dict[str, Any], name: str = "tiny") -> PlannedModel:
    return PlannedModel(name=name, config=deepcopy(config), source="spec")


def plain(config: dict[str, Any], seed: int = 1) -> nn.Module:
    """The module as open_clip's own classes make it, with weights and running statistics of its own."""
    torch.manual_seed(seed)
    make = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    options = {name: value for name, value in config.items() if name != "custom_text"}
    module = make(**deepcopy(options))
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.3, 0.3)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return module.eval()


def pairs(count: int = 5) -> Pairs:
    numbers = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=numbers, dtype=torch.uint8)
    tokens = open_clip.SimpleTokenizer(context_length=12)([f"{n} red stars" for n in range(count)])
    ids = torch.arange(count)
    return Pairs(images, tokens, ids, ids)


def embed(model: ClipModel, state: dict[str, Tensor], batch: Pairs) -> Encoded:
    weights = model.weights(state, "a.pt")
    return model.encoder(weights.fixed)(weights.theta, batch)


def normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(v)[:, None, None] for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    return (images.float() / 255 - mean) / std


@pytest.mark.parametrize("config", [VIT, RESNET, SIGLIP], ids=["vit", "resnet", "siglip"])
def test_encode_at_theta_equals_the_plain_module(config: dict[str, Any]) -> None:
    module, batch = plain(config), pairs()
    model = ClipModel.build(planned(config), CPU)
    encoded = embed(model, module.state_dict(), batch)
    with torch.no_grad():
        image = module.encode_image(normalised(batch.images), normalize=True)
        text = module.encode_text(batch.tokens, normalize=True)
    torch.testing.assert_close(encoded.image, image, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(encoded.text, text, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(encoded.scale, module.logit_scale.exp().reshape(()))


def test_running_statistics_are_those_of_each_checkpoint() -> None:
    states = [plain(RESNET, seed).state_dict() for seed in (1, 2)]
    shared = ClipModel.build(planned(RESNET), CPU)
    weights = [shared.weights(state, "a.pt") for state in states]  # both are held before either is used
    for one, state in zip(weights, states, strict=True):
        alone = embed(ClipModel.build(planned(RESNET), CPU), state, pairs())
        torch.testing.assert_close(shared.encoder(one.fixed)(one.theta, pairs()).image, alone.image)


@pytest.mark.parametrize("config", [VIT, RESNET, SIGLIP], ids=["vit", "resnet", "siglip"])
def test_theta_holds_every_parameter_and_comes_back_by_name(config: dict[str, Any]) -> None:
    module = plain(config)
    model = ClipModel.build(planned(config), CPU)
    theta = model.weights(module.state_dict(), "a.pt").theta
    found = model.layout.unflatten(theta)
    expected = dict(module.named_parameters())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert theta.shape == (sum(value.numel() for value in expected.values()),)
    assert torch.equal(model.layout.flatten(found), theta)


def test_half_precision_checkpoints_become_the_models_dtype() -> None:
    state = {name: value.half() for name, value in plain(VIT).state_dict().items()}
    assert ClipModel.build(planned(VIT), CPU).weights(state, "a.pt").theta.dtype == torch.float32
    assert ClipModel.build(planned(VIT), CPU, torch.float64).weights(state, "a.pt").theta.dtype == torch.float64


def test_a_logit_bias_makes_it_siglip() -> None:
    model = ClipModel.build(planned(SIGLIP), CPU)
    encoded = embed(model, plain(SIGLIP).state_dict(), pairs())
    assert model.kind is LossKind.SIGLIP
    assert float(encoded.bias) == -10
    assert ClipModel.build(planned(VIT), CPU).kind is LossKind.INFO_NCE


def test_names_that_are_missing_unknown_or_of_another_shape_are_told() -> None:
    state = plain(VIT).state_dict()
    state["visual.extra"] = state.pop("visual.proj")
    state["ln_final.weight"] = torch.ones(9)
    with pytest.raises(CheckpointUnusable) as caught:
        ClipModel.build(planned(VIT, "mine"), CPU).weights(state, "run/epoch_1.pt")
    assert caught.value.detail.startswith(
        "run/epoch_1.pt does not fit the architecture mine (spec): 1 missing (visual.proj); 1 unknown (visual.extra); "
        "1 of another shape (ln_final.weight (9,) instead of (8,))."
    )
    assert caught.value.data == {"uri": "run/epoch_1.pt", "model": "mine"}


def test_a_checkpoint_of_another_architecture_is_refused_with_a_few_names() -> None:
    with pytest.raises(CheckpointUnusable, match=r"103 missing \(visual\.bn1\.weight, .*, \.\.\.\); 31 unknown"):
        ClipModel.build(planned(RESNET), CPU).weights(plain(VIT).state_dict(), "a.pt")


@pytest.mark.parametrize(
    "broken",
    [{"embed_dim": 8}, {**VIT, "vision_cfg": {"no_such_option": 1}}, {**VIT, "text_cfg": {"width": 10, "heads": 3}}],
    ids=["towers missing", "unknown option", "heads that do not divide the width"],
)
def test_an_architecture_that_open_clip_cannot_build_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(CheckpointUnusable, match="open_clip cannot build the architecture mine"):
        ClipModel.build(planned(broken, "mine"), CPU)


def test_one_name_with_two_configs_is_two_architectures() -> None:
    wide = {**VIT, "embed_dim": 24}
    sizes = [ClipModel.build(planned(config, "ViT-B-32"), CPU).layout.size for config in (VIT, wide, VIT)]
    assert sizes[0] == sizes[2] < sizes[1]


def test_nothing_is_downloaded_even_under_a_name_that_has_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def refuse(self: socket.socket, address: object) -> None:
        asked.append(address)
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    model = planned(VIT, "ViT-B-32")
    built = ClipModel.build(model, CPU)
    view_functions(model, built.cfg).tokens("a red star")
    assert asked == []


def test_views_and_normalisation_make_open_clips_own_inputs() -> None:
    model = ClipModel.build(planned(VIT), CPU)
    noise = torch.randint(0, 256, (50, 70, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    picture = Image.fromarray(noise.numpy())
    transform = image_transform_v2(PreprocessCfg(size=32), is_train=False)
    mine = torch.from_numpy(view_functions(model.planned, model.cfg).image(picture))
    torch.testing.assert_close(model.normalised(mine), transform(picture), rtol=1e-5, atol=1e-6)
