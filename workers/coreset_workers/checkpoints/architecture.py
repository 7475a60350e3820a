"""Architecture and preprocessing of a training run, as open_clip's factory makes them from the run's options."""

import json
from typing import Any

import open_clip
from open_clip.transform import PreprocessCfg

from coreset.errors import CheckpointUnusable
from coreset.schemas.plan import PlannedModel
from coreset.spec.model import ModelSpec
from coreset_workers.checkpoints.params import LARGEST_TEXT, Params, is_set, numbers, option
from coreset_workers.data.opening import open_file

TAG_PREPROCESS = ("mean", "std", "interpolation", "resize_mode")
"""Settings of images that open_clip takes from the tag of pretrained weights."""


def resolve_model(spec: ModelSpec | None, directory: str | None, params: Params) -> PlannedModel:
    """Return the architecture: from the spec, else open_clip_config.json, else the model that params.txt names.

    The run's options change it as they changed the trained model, unless the spec gives a whole `config`.

    Raises:
        CheckpointUnusable: none of them names an architecture, or open_clip does not know it.
    """
    saved = _saved_config(directory)
    trained_name = option(params, "model")
    name = (spec.name if spec else None) or trained_name
    if spec is not None and spec.config is not None:
        config, source = dict(spec.config), "spec"
    elif spec is not None and spec.name is not None:
        config, source = registered(spec.name), "spec"
    elif "model_cfg" in saved:
        config, source = saved["model_cfg"], "open_clip_config.json"
    elif trained_name is not None:
        config, source = registered(trained_name), "params.txt"
    else:
        raise CheckpointUnusable(
            "the architecture is not known: there is no params.txt. Give `model` with a name or a config in the spec."
        )
    whole = spec is not None and spec.config is not None
    _apply_switches(config, params)
    image_size = None if whole else _apply_overrides(config, params)
    preprocess = tag_preprocess(trained_name, option(params, "pretrained"))
    source_of_images = "the weights' tag" if preprocess else "open_clip defaults"
    if own := dict(saved.get("preprocess_cfg") or {}) | _preprocess_options(params):
        nulls = {name for name, value in own.items() if value is None}
        tagged = {name: value for name, value in preprocess.items() if name in nulls}
        preprocess, source_of_images = preprocess | own | tagged, "run"
    return PlannedModel(
        name=name or "custom",
        config=config,
        source=source,
        preprocess=preprocess,
        preprocess_source=source_of_images,
        force_image_size=image_size,
        loss=_loss(config, params),
    )


def registered(name: str) -> dict[str, Any]:
    """Return the config of a model that open_clip knows by name; nothing is fetched.

    Raises:
        CheckpointUnusable: open_clip does not know the name.
    """
    # A colon would make open_clip read a hub (hf-hub:) or a folder (local-dir:).
    config = None if ":" in name else open_clip.get_model_config(name.replace("/", "-"))
    if config is None:
        raise CheckpointUnusable(
            f"{name!r} is not an architecture that open_clip knows. Put its open_clip_config.json into the run's "
            "directory, or give `model` with a `config` in the spec.",
            model=name,
        )
    return config


def tag_preprocess(model: str | None, pretrained: str | None) -> dict[str, Any]:
    """Return the image settings of a tag of pretrained weights that differ from open_clip's defaults."""
    usual, tag = vars(PreprocessCfg()), _tag(model, pretrained)
    return {name: tag[name] for name in TAG_PREPROCESS if tag.get(name) not in (None, usual[name])}


def activation_warning(model: PlannedModel, params: Params) -> str | None:
    """Return a warning if the run started from weights that were trained with the other GELU than the model has."""
    name, pretrained = option(params, "model"), option(params, "pretrained")
    tag = _tag(name, pretrained)
    wanted, given = bool(tag.get("quick_gelu")), bool(model.config.get("quick_gelu"))
    if not tag or model.source == "spec" or wanted == given:
        return None
    kinds = {True: "QuickGELU", False: "GELU"}
    warning = (
        f"params.txt: the weights {name}/{pretrained} that the run started from were trained with {kinds[wanted]}, "
        f"and its architecture has {kinds[given]}"
    )
    if wanted and open_clip.get_model_config(f"{name}-quickgelu"):
        warning += (
            f". open_clip 2 trained such runs with QuickGELU: if this one is of that age, give "
            f'`model: {{"name": "{name}-quickgelu"}}` in the spec'
        )
    return warning


def _tag(model: str | None, pretrained: str | None) -> dict[str, Any]:
    """Return what open_clip knows about a tag of pretrained weights; {} if it is no tag of the model."""
    if model is None or pretrained is None:
        return {}
    return dict(open_clip.get_pretrained_cfg(model.replace("/", "-"), pretrained))


def _apply_switches(config: dict[str, Any], params: Params) -> None:
    """Apply the switches that add to an architecture."""
    if is_set(params, "force_quick_gelu"):
        config["quick_gelu"] = True
    if is_set(params, "force_custom_text"):
        config["custom_text"] = True
    if is_set(params, "siglip") and config.get("init_logit_bias") is None:
        config["init_logit_bias"] = -10


def _apply_overrides(config: dict[str, Any], params: Params) -> Any:
    """Replace the settings that the run overrode; return the image size that a timm tower is to be resized to."""
    image_size = numbers(params, "force_image_size")
    if isinstance(image_size, list) and len(image_size) == 1:
        image_size = image_size[0]
    forced = (
        ("vision_cfg", "image_size", image_size),
        ("vision_cfg", "patch_dropout", numbers(params, "force_patch_dropout")),
        ("text_cfg", "context_length", numbers(params, "force_context_length")),
    )
    for tower, name, value in forced:
        if value is not None:
            config[tower] = {**config[tower], name: value}
    # timm builds its towers in their own size; open_clip resizes them after that, and only if a size was forced.
    return image_size if "timm_model_name" in config["vision_cfg"] else None


def _loss(config: dict[str, Any], params: Params) -> str | None:
    """Return the loss that the run was trained with if the architecture suggests another; None if it does not.

    A logit bias suggests SigLIP's loss, which the trainer uses with --siglip only. Old trainers lack the option.
    """
    biased = config.get("init_logit_bias") is not None
    return "info_nce" if biased and params.get("siglip") == "False" else None


def _preprocess_options(params: Params) -> dict[str, Any]:
    """Return the image settings that the run was started with."""
    given = {
        "mean": numbers(params, "image_mean"),
        "std": numbers(params, "image_std"),
        "interpolation": option(params, "image_interpolation"),
        "resize_mode": option(params, "image_resize_mode"),
    }
    return {name: value for name, value in given.items() if value is not None}


def _saved_config(directory: str | None) -> dict[str, Any]:
    """Return the open_clip_config.json of the run; {} without one."""
    if directory is None:
        return {}
    uri = f"{directory}/open_clip_config.json"
    try:
        with open_file(uri) as file:
            saved = json.loads(file.read(LARGEST_TEXT))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise CheckpointUnusable(f"{uri} is not valid JSON", uri=directory) from error
    if not isinstance(saved, dict):
        raise CheckpointUnusable(f"{uri} holds no JSON object", uri=directory)
    return saved
