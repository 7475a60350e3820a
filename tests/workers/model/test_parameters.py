"""Which parameters are counted: by patterns, and by the last blocks of each tower, for towers of several kinds."""

import pytest
import torch

from coreset.errors import InvalidSpec
from coreset.schemas.plan import PlannedModel
from coreset.spec.model import ParametersSpec
from coreset_workers.model.clip import ClipModel, build
from coreset_workers.model.parameters import counted_parameters

TEXT = {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 3}
VIT = {"image_size": 16, "layers": 3, "width": 8, "head_width": 4, "patch_size": 8}
RESNET = {"image_size": 32, "layers": [1, 2, 1, 2], "width": 8}
CPU = torch.device("cpu")


def planned(vision: dict, **more: object) -> PlannedModel:
    config = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": TEXT, **more}
    return PlannedModel(name="tiny", config=config, source="spec")


def counted(model: PlannedModel, **spec: object) -> list[str]:
    names = counted_parameters(ParametersSpec.model_validate(spec), model)
    assert names is not None
    return names


def test_all_is_no_list() -> None:
    assert counted_parameters("all", planned(VIT)) is None


def test_the_last_block_of_a_transformer_takes_what_comes_after_it_and_nothing_before() -> None:
    names = counted(planned(VIT), last_blocks=1)
    heads = {name for name in names if "resblocks" not in name}
    assert heads == {
        "visual.proj",
        "visual.ln_post.weight",
        "visual.ln_post.bias",
        "ln_final.weight",
        "ln_final.bias",
        "text_projection",
        "logit_scale",
    }
    blocks = {name.split("resblocks.")[0] + name.split("resblocks.")[1][0] for name in names if "resblocks" in name}
    assert blocks == {"visual.transformer.2", "transformer.2"}


def test_the_last_blocks_of_a_resnet_are_its_last_bottlenecks() -> None:
    names = counted(planned(RESNET), last_blocks=2)
    assert {name.split(".")[1] for name in names if name.startswith("visual.")} == {"layer4", "attnpool"}
    assert {name.split(".")[2] for name in names if name.startswith("visual.layer4")} == {"0", "1"}


def test_a_bias_of_the_logits_is_counted() -> None:
    assert "logit_bias" in counted(planned(VIT, init_logit_bias=-10), last_blocks=1)


def test_patterns_name_parameters_in_the_order_of_the_model() -> None:
    names = counted(planned(VIT), names=["visual.proj", "visual.transformer.*.2.ln_1.*"])
    assert names == [
        "visual.proj",
        "visual.transformer.resblocks.2.ln_1.weight",
        "visual.transformer.resblocks.2.ln_1.bias",
    ]


def test_a_pattern_that_matches_nothing_is_named() -> None:
    with pytest.raises(InvalidSpec, match=r"visual\.transfomer\.\* matches no parameter .* like positional_embedding"):
        counted(planned(VIT), names=["visual.transfomer.*"])


def test_more_blocks_than_there_are() -> None:
    with pytest.raises(InvalidSpec, match="the tower visual has 3 blocks, 4 are asked for"):
        counted(planned(VIT), last_blocks=4)


def test_the_vector_holds_the_counted_parameters_alone() -> None:
    names = counted(planned(VIT), last_blocks=1)
    model = ClipModel.build(planned(VIT), CPU, counted=names)
    weights = model.weights(build(planned(VIT)).state_dict(), "here")
    assert model.layout.names == tuple(names)
    assert weights.theta.shape == (sum(model.shapes[name].numel() for name in names),)
    assert set(names).isdisjoint(weights.fixed)
    assert set(names) | set(weights.fixed) >= set(model.shapes)
