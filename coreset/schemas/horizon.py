"""The horizon of a plan: the last checkpoint that influence uses, and the measured losses behind the choice."""

from pydantic import Field

from coreset.spec.base import FrozenModel


class CheckpointLosses(FrozenModel):
    """Mean contrastive losses of whole batches at one checkpoint; null where a loss is not finite.

    Attributes:
        step: optimiser steps done.
        training: L_B, of the reference batch, which is drawn from the pool.
        target: L_V, of the validation samples; null if the target is the training.
        target_at_best_scale: L_V at the logit scale that makes it lowest. What L_V lies above it is over- or
            underconfidence.
        best_scale: that logit scale.
    """

    step: float
    training: float | None
    target: float | None = None
    target_at_best_scale: float | None = None
    best_scale: float | None = None


class Horizon(FrozenModel):
    """The last checkpoint that diffin, diffin_eq9 and tracin use.

    Attributes:
        checkpoint: its index; null if it is not known before the job prepares.
        step: its optimiser steps.
        why: the reason, as a sentence.
        losses: by checkpoint.
    """

    checkpoint: int | None
    step: float | None
    why: str
    losses: list[CheckpointLosses] = Field(default_factory=list[CheckpointLosses])
