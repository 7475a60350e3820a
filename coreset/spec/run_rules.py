"""Rules between a spec's training run and the fields that need one or describe it."""

from collections.abc import Sequence

from coreset.spec.checkpoints import CheckpointsSpec
from coreset.spec.model import ClipModelSpec, ModelSpec
from coreset.spec.scores import RUN_FREE_SCORES, Score


def require_run(
    checkpoints: CheckpointsSpec | None,
    scores: Sequence[Score],
    model: ModelSpec | None,
    parameters: object,
    clip_model: ClipModelSpec | None,
) -> None:
    """Raise ValueError if a field needs a run that the spec does not have, or another kind of run."""
    if checkpoints is None:
        _require_none(scores, model, parameters, clip_model)
    elif checkpoints.train is not None:
        _require_nothing_known(model, clip_model)


def _require_none(
    scores: Sequence[Score], model: ModelSpec | None, parameters: object, clip_model: ClipModelSpec | None
) -> None:
    """Raise ValueError unless the spec is one of a job without a run."""
    if needing := [score.value for score in scores if score not in RUN_FREE_SCORES]:
        raise ValueError(
            f"{', '.join(needing)}: these scores need a training run. Give `checkpoints`, or name scores that need "
            f"none: `scores`: {[score.value for score in RUN_FREE_SCORES]}, with `clip_model`"
        )
    if clip_model is None:
        raise ValueError("without `checkpoints` a job needs `clip_model`: there is no other model to score with")
    if clip_model.checkpoint is not None:
        raise ValueError(
            "clip_model.checkpoint names a checkpoint of the training run; give `checkpoints` too, or `name` and "
            "`pretrained` in its place"
        )
    given = [name for name, value in (("model", model), ("parameters", parameters)) if value not in (None, "all")]
    if given:
        raise ValueError(f"`{given[0]}` describes the training run: give `checkpoints` too, or leave it out")


def _require_nothing_known(model: ModelSpec | None, clip_model: ClipModelSpec | None) -> None:
    """Raise ValueError if the spec describes a run that is still to be trained as if it existed."""
    if model is not None:
        raise ValueError(
            "`model` describes a run that exists; give the architecture to train as `checkpoints.train.model`"
        )
    step = clip_model.checkpoint if clip_model else None
    if isinstance(step, int):
        raise ValueError(
            f"clip_model.checkpoint is step {step}, and a run that is still to be trained has no steps to name; give "
            "`last` or `horizon`"
        )
