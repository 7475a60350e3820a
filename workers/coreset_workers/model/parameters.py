"""Which parameters are counted: all, those of the last blocks of each tower, or those that a pattern names."""

from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import nn

from coreset.errors import InvalidSpec
from coreset.schemas.plan import PlannedModel
from coreset.spec.model import ParametersSpec
from coreset_workers.model.clip import build, preprocess_cfg, tower_names, view_functions

NAMED_AT_MOST = 5


def counted_parameters(spec: Literal["all"] | ParametersSpec, model: PlannedModel) -> list[str] | None:
    """Return the names of the parameters that are counted, in the model's order; None for all.

    Those of CoCa's captioning decoder are not: its loss is no part of the contrastive one.

    Raises:
        InvalidSpec: a pattern that matches none, or a tower without that many blocks.
    """
    if isinstance(spec, str) and "multimodal_cfg" not in model.config:
        return None
    module = build(model)
    if isinstance(spec, str):
        return tower_names(module)
    if spec.last_blocks is not None:
        return _last_blocks(module, model, spec.last_blocks)
    return _matching(module, spec.names or [])


def _matching(module: nn.Module, patterns: list[str]) -> list[str]:
    names = tower_names(module)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InvalidSpec(
                f"parameters.names: {pattern} matches no parameter of the model; "
                f"its names are like {', '.join(names[:: max(1, len(names) // NAMED_AT_MOST)][:NAMED_AT_MOST])}",
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
