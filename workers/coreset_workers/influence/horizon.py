"""The horizon: the checkpoint up to which influence is traced, chosen from the losses at every checkpoint."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from coreset.schemas.horizon import CheckpointLosses, Horizon
from coreset.schemas.plan import Plan
from coreset_workers.influence.finite import not_finite
from diffin.contrastive import Pairs, batch_loss, masked_members
from diffin.samples import ContrastiveLosses
from diffin.temperature import best_scale

RISE = 0.001
"""Smallest rise of L_V after its lowest, relative to it, that gets a warning."""


def lowest(losses: Sequence[float]) -> int:
    """Return the index of the lowest loss, the first of equal ones: the rule for `auto`.

    Past it, training makes V's loss worse, and influence rewards what undoes that. The rule is provisional: on two
    pools subsets by diffin traced to an earlier checkpoint trained better (12.7 and 8.8 points for 11.1 and 7.6), while
    on a third, with a better resolved adjoint, the lowest separated right captions from wrong ones best (an area under
    the ROC curve of 0.61 to 0.63 for 0.50 to 0.58).
    """
    return min(range(len(losses)), key=losses.__getitem__)


def measure_losses(step: float, samples: ContrastiveLosses, theta: Tensor, target: Pairs | None) -> CheckpointLosses:
    """Return the losses of B, and of V if it is a pool of its own, at a checkpoint theta (p,)."""
    with torch.no_grad():
        reference = samples.reference
        training = batch_loss(samples.context(theta), masked_members(reference, reference), samples.kind)
        if target is None:
            return CheckpointLosses(step=step, training=_finite(training))
        batch, masked = replace(samples, reference=target).context(theta), masked_members(target, target)
        scale, best = best_scale(batch, masked, samples.kind)
        return CheckpointLosses(
            step=step,
            training=_finite(training),
            target=_finite(batch_loss(batch, masked, samples.kind)),
            target_at_best_scale=_finite(best),
            best_scale=scale,
        )


def choose_horizon(plan: Plan, losses: list[CheckpointLosses]) -> Horizon:
    """Return the horizon of a plan whose losses are measured.

    Raises:
        CheckpointUnusable: the horizon is to be chosen, and V's loss at a checkpoint is not finite.
    """
    index, why = _choice(plan, losses)
    return Horizon(checkpoint=index, step=plan.checkpoints[index].step.value, why=why, losses=losses)


def describe_unmeasured(plan: Plan) -> Horizon:
    """Return the horizon of a plan that is not prepared yet."""
    if plan.horizon == "auto":
        why = (
            "auto: chosen while the job prepares, from the validation loss at every checkpoint. The passes and times "
            "are those of the last checkpoint, the most expensive choice"
        )
        return Horizon(checkpoint=None, step=None, why=why)
    index, why = _choice(plan, [])
    return Horizon(checkpoint=index, step=plan.checkpoints[index].step.value, why=why)


def fixed_horizon(plan: Plan) -> int:
    """Return the last checkpoint that influence may use, as far as the plan alone says."""
    steps = [checkpoint.step.value for checkpoint in plan.checkpoints]
    return steps.index(plan.horizon) if isinstance(plan.horizon, int) else len(steps) - 1


def clip_checkpoint(plan: Plan, horizon: int) -> int:
    """Return the checkpoint behind the CLIP scores, if no other model is.

    Args:
        horizon: the last checkpoint that influence uses.
    """
    if plan.clip_checkpoint == "horizon":
        return horizon
    steps = [checkpoint.step.value for checkpoint in plan.checkpoints]
    return len(steps) - 1 if plan.clip_checkpoint is None else steps.index(plan.clip_checkpoint)


def horizon_warnings(plan: Plan, horizon: Horizon) -> list[str]:
    """Return a warning if V's loss rises after its lowest: the run has begun to memorise."""
    losses = _target_losses(plan, horizon.losses)
    if not losses or horizon.step is None:
        return []
    best, last = min(losses), losses[-1]
    if last - best <= RISE * abs(best):
        return []
    at, end = (horizon.losses[index].step for index in (lowest(losses), -1))
    advice = (
        "Influence is traced past the lowest, where it rewards what undoes the memorising: set `checkpoints.horizon` "
        'to "auto".'
        if horizon.step > at
        else f"Influence is traced up to step {horizon.step:,.0f}. Save more checkpoints early in training, or train "
        "less."
    )
    return [
        f"the validation loss is lowest at step {at:,.0f} ({best:.3f}) and rises by {last - best:.3f} until step "
        f"{end:,.0f}. {advice}"
    ]


def _choice(plan: Plan, losses: list[CheckpointLosses]) -> tuple[int, str]:
    if isinstance(plan.horizon, int):
        return fixed_horizon(plan), "the step that the spec names"
    if plan.horizon is None:
        last = len(plan.checkpoints) - 1
        if isinstance(plan.target, str):
            return (
                last,
                "the last checkpoint: the target is the training, so no held-out loss can choose an earlier one",
            )
        return last, "the last checkpoint"
    values = _target_losses(plan, losses)
    index = lowest(values)
    return index, f"auto: the validation loss is lowest there, {values[index]:.3f}, of {len(values)} checkpoints"


def _target_losses(plan: Plan, losses: list[CheckpointLosses]) -> list[float]:
    """Return L_V by checkpoint; [] if the target is the training."""
    if isinstance(plan.target, str):
        return []
    values: list[float] = []
    for planned, found in zip(plan.checkpoints, losses, strict=True):
        if found.target is None:
            if plan.horizon == "auto":
                raise not_finite("the validation loss", planned.uri)
            return []
        values.append(found.target)
    return values


def _finite(loss: Tensor) -> float | None:
    value = float(loss)
    return value if math.isfinite(value) else None
