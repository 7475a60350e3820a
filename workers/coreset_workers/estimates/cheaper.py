"""Changes of a spec that would make a dear job cheaper, with the time that each would leave."""

from collections.abc import Iterator
from dataclasses import replace

from coreset.errors import InvalidSpec
from coreset.schemas.plan import Plan
from coreset.schemas.preflight import Cheaper, TimeEstimate
from coreset.spec.model import ParametersSpec
from coreset.spec.scores import DEFAULT_SCORES
from coreset_workers.estimates.time import Speed, measure_speed, time_estimate
from coreset_workers.influence.horizon import fixed_horizon
from coreset_workers.model.clip import ClipModel
from coreset_workers.model.parameters import counted_parameters
from diffin.layout import Layout

DEAR_SECONDS = 60.0
"""Time of a job from which on changes are named."""

LEFT = 0.8
"""Largest share of a job's time that a change may leave to be named."""

CHECKPOINTS, BLOCKS = 2, 2


def cheaper_changes(plan: Plan, model: ClipModel, batch: int, speed: Speed, time: TimeEstimate) -> list[Cheaper]:
    """Return the changes that save at least a fifth of a dear job's time, the cheapest job first."""
    whole = _seconds(time)
    if whole < DEAR_SECONDS or not plan.checkpoints:
        return []
    found = [
        Cheaper(change=change, prepare_seconds=less.prepare_seconds, score_seconds=less.score_seconds)
        for change, less in _changes(plan, model, batch, speed)
    ]
    return sorted((one for one in found if _seconds(one) <= LEFT * whole), key=_seconds)


def _seconds(time: TimeEstimate | Cheaper) -> float:
    return time.prepare_seconds + time.score_seconds


def _changes(plan: Plan, model: ClipModel, batch: int, speed: Speed) -> Iterator[tuple[str, TimeEstimate]]:
    extra = [score for score in plan.scores if score not in DEFAULT_SCORES]
    rest = [score for score in plan.scores if score in DEFAULT_SCORES]
    if extra and rest:
        fewer = plan.model_copy(update={"scores": rest})
        yield f"`scores` without {', '.join(extra)}", time_estimate(fewer, speed)
    used = plan.checkpoints[: fixed_horizon(plan) + 1]
    if len(used) > CHECKPOINTS:
        last = plan.model_copy(update={"checkpoints": used[-CHECKPOINTS:], "horizon": None})
        steps = " and ".join(f"{one.step.value:,.0f}" for one in last.checkpoints)
        yield f"the checkpoints of the steps {steps} alone", time_estimate(last, speed)
    if plan.parameters is None:
        try:
            names = set(counted_parameters(ParametersSpec(last_blocks=BLOCKS), plan.model, plan.trained) or [])
        except InvalidSpec:
            return  # a tower of fewer blocks
        counted = {name: value for name, value in model.module.named_parameters() if name in names}
        few = replace(model, layout=Layout.of(counted))
        yield f'`"parameters": {{"last_blocks": {BLOCKS}}}`', time_estimate(plan, measure_speed(plan, few, batch))
