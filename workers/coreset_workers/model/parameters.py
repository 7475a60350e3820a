"""Choice of the counted parameters: all, those of the last blocks of each tower, or those that a pattern matches.

Parameters that the run locked are never counted: training did not move them.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import nn

from coreset.errors import CheckpointUnusable, InvalidSpec
from coreset.schemas.plan import PlannedModel
from coreset.spec.model import ParametersSpec
from coreset_workers.model.clip import BUILD_ERRORS, build, preprocess_cfg, tower_names, view_functions

MAX_EXAMPLES = 5
"""Names of parameters in an error."""


def trained_parameters(model: PlannedModel, locks: Mapping[str, Mapping[str, Any]]) -> list[str] | None:
    """Return the names of the parameters that a run trained, in the model's order; None for all.

    Args:
        locks: arguments of open_clip's lock_image_tower and lock_text_tower, by `image` and `text`.

    Raises:
        CheckpointUnusable: open_clip cannot lock the towers so.
    """
    if not locks:
        return None
    module: Any = build(model).requires_grad_(True)
    try:
        if "image" in locks:
            module.lock_image_tower(**locks["image"])
        if "text" in locks:
            module.lock_text_tower(**locks["text"])
    except BUILD_ERRORS as error:
        raise CheckpointUnusable(
            f"params.txt: open_clip cannot lock the towers of {model.name} as the run did: {error}",
            model=model.name,
        ) from error
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def counted_parameters(
    spec: Literal["all"] | ParametersSpec, model: PlannedModel, trained: Collection[str] | None = None
) -> list[str] | None:
    """Return the names of the parameters that are counted, in the model's order; None for all.

    Those of CoCa's captioning decoder are not: its loss is no part of the contrastive one.

    Args:
        trained: names of the parameters that the run trained; None if it trained all.

    Raises:
        InvalidSpec: a pattern matches no parameter, a tower has too few blocks, or the run locked all of the named.
    """
    if isinstance(spec, str) and "multimodal_cfg" not in model.config and trained is None:
        return None
    module = build(model)
    if isinstance(spec, str):
        names = tower_names(module)
    elif spec.last_blocks is not None:
        names = _last_blocks(module, model, spec.last_blocks)
    else:
        names = _matching(module, spec.names or [])
    if trained is None:
        return names
    counted = [name for name in names if name in set(trained)]
    if not counted:
        raise InvalidSpec(
            "parameters: the run locked all parameters that are asked for (--lock-image, --lock-text), so that no "
            "sample moved them. Leave `parameters` out to count those that were trained.",
            field="parameters",
        )
    return counted


def _matching(module: nn.Module, patterns: list[str]) -> list[str]:
    names = tower_names(module)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InvalidSpec(
                f"parameters.names: {pattern} matches no parameter of the model; "
                f"its names are like {', '.join(names[:: max(1, len(names) // MAX_EXAMPLES)][:MAX_EXAMPLES])}",
                pattern=pattern,
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _last_blocks(module: nn.Module, model: PlannedModel, count: int) -> list[str]:
    """Return the parameters at or after the last `count` blocks of each tower.

    They are those that the gradient still reaches when the input of the first of these blocks is cut off from what
    comes before it, so no layer needs to be known by name.
    """
    starts = [_block(tower, name, count) for name, tower in _towers(module)]
    cuts = [block.register_forward_pre_hook(_detached) for block in starts]
    functions = view_functions(model, preprocess_cfg(model, module))
    pixels = functions.image(Image.new("RGB", (64, 64), (200, 120, 40)))
    images = torch.from_numpy(np.stack([pixels] * 2)).float() / 255
    tokens = torch.from_numpy(np.stack([functions.tokens("a"), functions.tokens("b c")]))
    with torch.enable_grad():
        module.requires_grad_(True)
        embeddings: Any = module
        ends = embeddings.encode_image(images).sum() + embeddings.encode_text(tokens).sum()
        names, values = zip(*module.named_parameters(), strict=True)
        slopes = torch.autograd.grad(ends, values, allow_unused=True)
    for cut in cuts:
        cut.remove()
    scale = ("logit_scale", "logit_bias")
    return [n for n, slope in zip(names, slopes, strict=True) if slope is not None or n in scale]


def _detached(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.detach() if isinstance(value, torch.Tensor) else value for value in inputs)


def _towers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the image tower and the text tower; CLIP's own text transformer lies in the model itself."""
    yield "visual", module.get_submodule("visual")
    text = "text" if hasattr(module, "text") else "transformer"
    yield text, module.get_submodule(text)


def _block(tower: nn.Module, name: str, count: int) -> nn.Module:
    """Return the first of the tower's last `count` blocks.

    Blocks are the outermost modules in lists and sequences that are of the most frequent class there.
    """
    found: list[nn.Module] = []
    inside: list[str] = []
    for path, child in tower.named_modules():
        parent = tower.get_submodule(path.rpartition(".")[0])
        listed = path and isinstance(parent, nn.ModuleList | nn.Sequential)
        if listed and not path.startswith(tuple(inside)) and any(True for _ in child.parameters()):
            found.append(child)
            inside.append(f"{path}.")
    if found:
        kind = Counter(type(block) for block in found).most_common(1)[0][0]
        found = [block for block in found if type(block) is kind]
    if len(found) < count:
        raise InvalidSpec(
            f"parameters.last_blocks: the tower {name} has {len(found)} blocks, {count} are asked for",
            tower=name,
            blocks=len(found),
        )
    return found[-count]
