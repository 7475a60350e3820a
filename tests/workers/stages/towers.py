"""Tiny configs of every kind of tower that open_clip builds, and checkpoints of them from a few real steps of AdamW."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

WORDS = ("bn", "ln", "bias", "logit_scale")
VIT: dict[str, Any] = {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 16}
RESNET: dict[str, Any] = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}
TIMM: dict[str, Any] = {"timm_model_name": "test_vit", "image_size": 32, "timm_pool": "", "timm_proj": "linear"}
DECODER: dict[str, Any] = {"context_length": 24, "vocab_size": 99, "width": 16, "heads": 2, "layers": 1}


def text(vocabulary: int, **more: Any) -> dict[str, Any]:
    return {"context_length": 24, "vocab_size": vocabulary, "width": 8, "heads": 2, "layers": 1} | more


def configs(vocabulary: int) -> dict[str, dict[str, Any]]:
    """Return a config of each kind by name."""
    plain = text(vocabulary)
    coca_vision = {
        **VIT,
        "attentional_pool": True,
        "attn_pooler_queries": 4,
        "attn_pooler_heads": 2,
        "output_tokens": True,
    }
    coca_text = text(vocabulary, width=16, embed_cls=True, output_tokens=True)
    vit: dict[str, Any] = {"embed_dim": 16, "vision_cfg": VIT, "text_cfg": plain}
    return {
        "vit": vit,
        "vit with a bias": {**vit, "init_logit_bias": -2.0},
        "resnet": {**vit, "vision_cfg": RESNET},
        "custom text": {
            **vit,
            "text_cfg": text(vocabulary, no_causal_mask=True, pool_type="last"),
            "custom_text": True,
        },
        "siglip": {**vit, "init_logit_bias": -2.0, "nonscalar_logit_scale": True, "custom_text": True},
        "timm": {**vit, "vision_cfg": TIMM, "custom_text": True},
        "coca": {
            **vit,
            "vision_cfg": coca_vision,
            "text_cfg": coca_text,
            "multimodal_cfg": {**DECODER, "vocab_size": vocabulary},
            "custom_text": True,
        },
    }


def module_of(config: dict[str, Any], seed: int = 0) -> nn.Module:
    """Return the model as open_clip's own classes make it."""
    torch.manual_seed(seed)
    options = {name: value for name, value in deepcopy(config).items() if name != "custom_text"}
    if "multimodal_cfg" in options:
        coca = open_clip.CoCa(**options)
        nn.init.normal_(coca.text_decoder.text_projection, std=0.1)  # open_clip leaves it as the memory was
        return coca
    return (open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP)(**options)


def train(module: nn.Module, vocabulary: int, steps: int, seed: int = 0) -> torch.optim.AdamW:
    """Take steps with open_clip's losses and the parameter groups of its trainer, in training mode."""
    numbers = torch.Generator().manual_seed(seed)
    named = list(module.named_parameters())
    excluded = [p for n, p in named if p.ndim < 2 or any(word in n for word in WORDS)]
    rest = [p for n, p in named if not (p.ndim < 2 or any(word in n for word in WORDS))]
    groups = [{"params": excluded, "weight_decay": 0.0}, {"params": rest, "weight_decay": 0.2}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3, betas=(0.9, 0.98), eps=1e-6)
    for _ in range(steps):
        images, tokens = inputs(12, vocabulary, numbers)
        loss = _loss(module.train(), images, tokens)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    module.eval()
    return optimizer


def inputs(count: int, vocabulary: int, numbers: torch.Generator) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(1, vocabulary - 1, (count, 24), generator=numbers)
    tokens[:, -1] = vocabulary - 1  # the highest id marks the end
    return torch.randn(count, 3, 32, 32, generator=numbers), tokens


def _loss(module: Any, images: Tensor, tokens: Tensor) -> Tensor:
    if isinstance(module, open_clip.CoCa):
        losses = open_clip.CoCaLoss(caption_loss_weight=2.0, clip_loss_weight=1.0, pad_id=0)
        outputs = module(images, tokens)
        return sum(losses(**outputs))
    outputs = module(images, tokens)
    return open_clip.ClipLoss()(*outputs) if len(outputs) == 3 else open_clip.loss.SigLipLoss()(*outputs)


def save(module: nn.Module, optimizer: torch.optim.AdamW, path: Path, step: int) -> None:
    """Write a checkpoint as open_clip's trainer does."""
    content = {"epoch": 1, "name": "tiny", "state_dict": module.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**content, "global_step": step}, path)
