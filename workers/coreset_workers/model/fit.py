"""Whether a checkpoint's weights fit an architecture; if they do not, what differs and what to change."""

from torch import Tensor

from coreset.errors import CheckpointUnusable
from coreset.schemas.plan import PlannedModel

COUNTERS = "num_batches_tracked"
"""End of the names of batch normalisation's counters. No score reads them, and frozen layers have none."""

WAYS_OUT = {
    "spec": "Correct `model` in the spec, or leave it out to take the run's own architecture",
    "params.txt": "params.txt names this architecture. If the run was trained with another config of that name, put "
    "its open_clip_config.json into the run's directory, or give `model` with a `config` in the spec",
    "open_clip_config.json": "open_clip_config.json in the run's directory describes another architecture: correct it, "
    "or give `model` in the spec",
}

HINTS = (
    ("visual.positional_embedding", "vision_cfg.image_size or patch_size differs"),
    ("positional_embedding", "text_cfg.context_length differs"),
    ("text.positional_embedding", "text_cfg.context_length differs"),
    ("token_embedding.weight", "text_cfg.vocab_size or width differs"),
    ("text.token_embedding.weight", "text_cfg.vocab_size or width differs"),
)
"""Causes of another shape, by the name of the parameter."""


def require_fit(expected: dict[str, Tensor], given: dict[str, Tensor], uri: str, model: PlannedModel) -> None:
    """Compare the names and shapes of a checkpoint with those of the model.

    Raises:
        CheckpointUnusable: they differ; says how, the likely cause and the way out.
    """
    missing = [name for name in expected if name not in given and not name.endswith(COUNTERS)]
    unknown = [name for name in given if name not in expected and not name.endswith(COUNTERS)]
    reshaped = [name for name, value in expected.items() if name in given and given[name].shape != value.shape]
    if not (missing or unknown or reshaped):
        return
    shapes = [f"{name} {tuple(given[name].shape)} instead of {tuple(expected[name].shape)}" for name in reshaped]
    differences = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for names, kind in ((missing, "missing"), (unknown, "unknown"), (shapes, "of another shape"))
        if names
    ]
    cause = _cause(missing, unknown, reshaped)
    raise CheckpointUnusable(
        f"{uri} does not fit the architecture {model.name} ({model.source}): {'; '.join(differences)}. "
        f"{f'It seems that {cause}. ' if cause else ''}{WAYS_OUT.get(model.source, WAYS_OUT['spec'])}.",
        uri=uri,
        model=model.name,
    )


def _cause(missing: list[str], unknown: list[str], reshaped: list[str]) -> str | None:
    """Return the likely cause of a difference, as settings of the config."""
    if any(f"text.{name}" in unknown for name in missing):
        return "the run was trained with a text tower of its own (custom_text: true)"
    if any(f"text.{name}" in missing for name in unknown):
        return "the run was trained without a text tower of its own (custom_text: false)"
    if "logit_bias" in unknown:
        return "the run was trained with a logit bias (init_logit_bias: -10)"
    if "logit_bias" in missing:
        return "the run was trained without a logit bias (init_logit_bias: null)"
    return next((cause for name, cause in HINTS if name in reshaped), None)
