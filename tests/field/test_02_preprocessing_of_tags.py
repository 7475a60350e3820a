"""A run that started from a tag of pretrained weights sees images as open_clip's factory shows them."""

from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from coreset_workers.checkpoints.architecture import activation_warning, resolve_model


def params(model: str, pretrained: str, **more: str) -> dict[str, str]:
    return {"model": model, "pretrained": pretrained, "image_mean": "None", **more}


def test_every_tag_is_merged_as_the_factory_does() -> None:
    usual = dict(vars(PreprocessCfg()))
    others = 0
    for name, tag in open_clip.list_pretrained():
        if open_clip.get_model_config(name) is None:  # a few tags have no config
            continue
        model = resolve_model(None, None, params(name, tag))
        expected = merge_preprocess_dict(usual, open_clip.get_pretrained_cfg(name, tag))
        assert merge_preprocess_dict(usual, dict(model.preprocess)) == expected, (name, tag)
        assert (model.preprocess_source == "the weights' tag") == (expected != usual)
        others += expected != usual
    assert others > 40


@pytest.mark.parametrize("tag", ["meta", "META"])
def test_the_factory_itself_agrees(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open_clip.factory.download_pretrained", lambda *_, **__: "")
    with torch.device("meta"):
        made = open_clip.create_model(
            "PE-Core-T-16-384", tag, device="meta", load_weights=False, force_preprocess_cfg={"resize_mode": "longest"}
        )
    model = resolve_model(None, None, params("PE-Core-T-16-384", tag, image_resize_mode="longest"))
    found = merge_preprocess_dict(dict(vars(PreprocessCfg())), dict(model.preprocess))
    assert {**found, "size": None} == {**made.visual.preprocess_cfg, "size": None}
    assert model.preprocess["mean"] == (0.5, 0.5, 0.5)


def test_a_saved_config_goes_before_the_tag(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text('{"preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": null}}')
    model = resolve_model(None, str(tmp_path), params("PE-Core-T-16-384", "meta"))
    assert model.preprocess["mean"] == [0.1, 0.2, 0.3]
    assert model.preprocess["std"] == (0.5, 0.5, 0.5)


def test_a_file_and_an_unknown_tag_change_nothing() -> None:
    for pretrained in ("/weights/epoch_3.pt", "no_such_tag", ""):
        assert resolve_model(None, None, params("PE-Core-T-16-384", pretrained)).preprocess == {}


def test_weights_with_the_other_gelu_are_warned_of() -> None:
    given = params("ViT-B-32", "openai")
    warning = activation_warning(resolve_model(None, None, given), given)
    assert warning is not None
    assert "trained with QuickGELU" in warning
    assert "ViT-B-32-quickgelu" in warning
    for forced in (params("ViT-B-32", "openai", force_quick_gelu="True"), params("ViT-B-32-quickgelu", "openai")):
        assert activation_warning(resolve_model(None, None, forced), forced) is None
    plain = params("ViT-B-32", "laion2b_s34b_b79k")
    assert activation_warning(resolve_model(None, None, plain), plain) is None
