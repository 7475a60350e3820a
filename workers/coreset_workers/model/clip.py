"""open_clip models as functions of a flat parameter vector, and the functions that make their inputs."""

import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call

from coreset.errors import CheckpointUnusable
from coreset.schemas.plan import PlannedModel
from coreset_workers.data.decode import ViewFunctions
from coreset_workers.model.fit import require_fit
from coreset_workers.model.limits import check_config, check_size, require_transformers
from coreset_workers.model.tokenizers import load_tokenizer
from diffin.batch_loss import Encoder
from diffin.contrastive import Encoded, LossKind, Pairs
from diffin.layout import Layout
from diffin.trunk import frozen_modules

# One kernel path for every forward pass: the fused inference path has no derivative and rounds differently.
torch.backends.mha.set_fastpath_enabled(False)
# Differences of losses need all of float32's digits: TF32 has ten bits of them.
torch.backends.cudnn.allow_tf32 = False
torch.set_float32_matmul_precision("highest")


BUILD_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Errors that open_clip and torch raise for configs that make no model."""

MAX_FILE_NAME = 100
"""Characters of a model's name in the name of its file."""


def register(model: PlannedModel) -> str:
    """Make the architecture known to open_clip, under a name of its content, and return that name."""
    text = json.dumps(model.config, sort_keys=True)
    stem = model.name.rsplit("/", 1)[-1].split(":", 1)[-1]
    stem = re.sub(r"[^\w.-]", "-", stem, flags=re.ASCII)[:MAX_FILE_NAME]
    name = f"{stem}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if name not in open_clip.list_models():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.json"
            path.write_text(text)
            open_clip.add_model_config(path)
    return name


def build(model: PlannedModel) -> nn.Module:
    """Return the model in float32 and eval mode without loading weights; nothing is downloaded.

    Raises:
        CheckpointUnusable: open_clip cannot build this architecture, it is too large, or a package is not installed.
        LocationForbidden: it names a model of a hub that is not allowed.
    """
    check_config(model)
    require_transformers(model)
    name = register(model)
    resized: Any = {"force_image_size": model.force_image_size} if model.force_image_size else {}
    try:
        with _quiet():
            check_size(model, name)
            built = open_clip.create_model(name, load_weights=False, pretrained_text=False, **resized)
    except BUILD_ERRORS as error:
        raise CheckpointUnusable(
            f"open_clip cannot build the architecture {model.name} ({model.source}): {error}", model=model.name
        ) from error
    return built.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep open_clip's messages to the root logger, such as that no weights were loaded, out of our logs."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.root.setLevel(level)


def preprocess_cfg(model: PlannedModel, built: nn.Module) -> PreprocessCfg:
    """Return the preprocessing of the model's images: open_clip's defaults, the plan's settings, the tower's size."""
    base = merge_preprocess_dict(dict(vars(PreprocessCfg())), dict(model.preprocess))
    visual: Any = built.visual
    return PreprocessCfg(**(base | {"size": visual.image_size}))


def view_functions(model: PlannedModel, cfg: PreprocessCfg) -> ViewFunctions:
    """Return the functions that turn a sample into this model's inputs, for a loader process."""
    transform: Any = image_transform_v2(cfg, is_train=False)
    steps = transform.transforms[:-2]  # without ToTensor and Normalize, which happen on the device
    tokenizer = load_tokenizer(model, register(model))

    def image(picture: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
        for step in steps:
            picture = step(picture)
        return np.ascontiguousarray(np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1))

    def tokens(caption: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        return tokenizer([caption])[0].numpy()

    return ViewFunctions(image, tokens)


def tower_names(module: nn.Module) -> list[str]:
    """Return the names of the towers' parameters: all but those of CoCa's captioning decoder."""
    return [name for name, _ in module.named_parameters() if not name.startswith("text_decoder.")]


class Towers(nn.Module):
    """Both towers and the scale in one call, whatever else the model's own forward method returns."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip: Any = clip

    def forward(self, images: Tensor, tokens: Tensor) -> Encoded:
        scale, bias = self.clip.logit_scale.exp().reshape(()), self.clip.logit_bias
        return Encoded(
            self.clip.encode_image(images, normalize=True),
            self.clip.encode_text(tokens, normalize=True),
            scale,
            torch.zeros_like(scale) if bias is None else bias.reshape(()),
        )


@dataclass(frozen=True)
class Weights:
    """Weights of a checkpoint, split for the model.

    Attributes:
        theta: (p,) the parameters that are counted.
        fixed: the checkpoint's other parameters and buffers by name, such as running statistics.
    """

    theta: Tensor
    fixed: dict[str, Tensor]


@dataclass(frozen=True)
class ClipModel:
    """A CLIP as a function of theta (p,).

    Attributes:
        planned: the architecture.
        module: on its device; its own weights are not used.
        layout: of the parameters that are counted.
        kind: InfoNCE, or SigLIP if the architecture has a logit bias and the run was trained with that loss.
        mean, std: (3, 1, 1) of the normalisation.
    """

    planned: PlannedModel
    module: nn.Module
    layout: Layout
    kind: LossKind
    cfg: PreprocessCfg
    mean: Tensor
    std: Tensor

    @classmethod
    def build(
        cls,
        planned: PlannedModel,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        counted: Collection[str] | None = None,
    ) -> "ClipModel":
        """Build the model; `counted` names the parameters that are counted, None counts all of the towers."""
        module = build(planned)
        cfg = preprocess_cfg(planned, module)
        module = module.to(device=device, dtype=dtype).requires_grad_(False)
        siglip = getattr(module, "logit_bias", None) is not None and planned.loss != "info_nce"
        kind = LossKind.SIGLIP if siglip else LossKind.INFO_NCE
        mean, std = (torch.tensor(v, device=device, dtype=dtype)[:, None, None] for v in (cfg.mean, cfg.std))
        wanted = set(tower_names(module) if counted is None else counted)
        params = {name: p for name, p in module.named_parameters() if name in wanted}
        return cls(planned, module, Layout.of(params), kind, cfg, mean, std)

    @property
    def device(self) -> torch.device:
        return self.mean.device

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Shapes of all parameters by name, counted or not."""
        return {name: value.shape for name, value in self.module.named_parameters()}

    def encoder(self, fixed: dict[str, Tensor]) -> Encoder:
        """Return the towers of a checkpoint: (theta (p,), pairs with images uint8 (n, 3, H, W)) -> embeddings.

        They compute in the model's precision; theta may have another.
        """
        others = {
            name: value.to(self.mean.dtype) if value.is_floating_point() else value for name, value in fixed.items()
        }

        towers = Towers(self.module)

        def encode(theta: Tensor, pairs: Pairs) -> Encoded:
            weights = self.layout.unflatten(theta.to(self.mean.dtype)) | others
            named = {f"clip.{name}": value for name, value in weights.items()}
            return functional_call(towers, named, (self.normalised(pairs.images), pairs.tokens))

        return encode

    def weights(self, state_dict: dict[str, Tensor], uri: str) -> Weights:
        """Return the checkpoint on the device, in the model's precision.

        Raises:
            CheckpointUnusable: names are missing, unknown, or of another shape.
        """
        self.require_fit(state_dict, uri)
        own = self.module.state_dict()
        given = own | state_dict  # batch normalisation's counters may be missing, and are not read
        ours = {name: given[name].to(self.device, value.dtype) for name, value in own.items()}
        tied = dict(self.module.named_parameters(remove_duplicate=False)).keys() - self.shapes.keys()
        fixed = {name: value for name, value in ours.items() if name not in tied.union(self.layout.names)}
        return Weights(self.layout.flatten(ours), fixed)

    def require_fit(self, state_dict: dict[str, Tensor], uri: str) -> None:
        """Raise CheckpointUnusable if names are missing, unknown, or of another shape; numbers do not matter."""
        require_fit(self.module.state_dict(), state_dict, uri, self.planned)

    @cached_property
    def frozen(self) -> list[nn.Module]:
        """The outermost parts of the model without a counted parameter, for `diffin.trunk`."""
        return frozen_modules(self.module, self.layout.names)

    def normalised(self, images: Tensor) -> Tensor:
        return (images.to(self.mean.dtype) / 255 - self.mean) / self.std
