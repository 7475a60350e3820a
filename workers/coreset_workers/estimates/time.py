"""How many forward passes a plan takes, and how long they take on this device."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from coreset.schemas.plan import Plan
from coreset.schemas.preflight import TimeEstimate
from coreset.spec.scores import Score
from coreset_workers.influence.horizon import fixed_horizon
from coreset_workers.influence.passes import needs_centre
from coreset_workers.influence.self_influence import VECTORS
from coreset_workers.influence.trace import MINIBATCHES, PROBES, minibatch_size
from coreset_workers.model.batch_size import LARGEST_GRAPH, graph_samples
from coreset_workers.model.clip import ClipModel
from coreset_workers.model.meta_device import Shadow, count_flops
from diffin import stencil as st
from diffin.adjoint import LANCZOS_STEPS
from diffin.contrastive import Pairs
from diffin.trunk import trunk_run_once

PRODUCT_FORWARDS = 9.0
"""A Hessian-vector product of all parameters in forward passes (counted on ViT-B-32 and RN50: 8.9 to 9.0)."""

WORK_IN_PIECES = 15 / 9
"""So much more a product takes of a minibatch that is split into pieces (counted on both: 14.9 to 15.0 forwards)."""

EXACT_FORWARDS = 3
"""A forward-mode derivative in forward passes (counted: 3.0); float64 takes twice as long as float32."""

STEPS_TRIED = 6
"""Of a calibration, for each difference; typical."""

TIMED_SECONDS = 1.0
TIMED_BATCH = {"cpu": 16, "cuda": 256}

ASSUMPTION = (
    "one worker on a device like this one, whose forward passes keep the speed that was just measured, in float32; "
    "reading and decoding keep up with it. Scoring is shared by all workers, preparing is done by one."
)


def unit_stencil(plan: Plan, index: int) -> st.Stencil:
    """Return the stencil of a checkpoint with steps of 1: the same number of points, along the same directions.

    Those of self-influence, whose vectors are no directions of their own checkpoint, are not in it.
    """
    wanted, training = set(plan.scores) if index <= fixed_horizon(plan) else set[Score](), isinstance(plan.target, str)
    stencils: list[st.Stencil] = []
    if Score.DIFFIN_EQ9 in wanted:
        stencils.append(st.curve(1.0) if training else st.mixed(1.0, 2.0))
    elif Score.TRACIN in wanted:
        stencils.append(st.first_difference("tracin", "gradient" if training else "target_gradient", 1.0))
    if Score.DIFFIN in wanted:
        stencils.append(st.first_difference("diffin", "influence", 1.0))
    return st.merge(stencils, (st.CENTRE,) if needs_centre(plan, index, fixed_horizon(plan)) else ())


def forwards(plan: Plan) -> int:
    """Return the forward passes a sample: the points of all checkpoints, and the CLIP-score model."""
    points = sum(len(unit_stencil(plan, index).points) for index in range(len(plan.checkpoints)))
    own = 2 * VECTORS * len(plan.checkpoints) if Score.SELF_INFLUENCE in plan.scores else 0
    return points + own + (1 if plan.clip_model is not None else 0)


def preparing_forwards(plan: Plan, product: float = PRODUCT_FORWARDS, graph: int = LARGEST_GRAPH) -> float:
    """Return the forward passes of one sample that preparing is worth.

    Args:
        product: those of a Hessian-vector product in one piece.
        graph: samples of the largest piece.
    """
    size, checkpoints = minibatch_size(plan), fixed_horizon(plan) + 1
    products = MINIBATCHES * LANCZOS_STEPS * size if Score.DIFFIN in plan.scores else 0
    if Score.DIFFIN_EQ9 in plan.scores:
        products += plan.reference_size
    product *= 1 if size <= graph else WORK_IN_PIECES
    derivatives = (1 if Score.DIFFIN in plan.scores else 0) + (4 if Score.DIFFIN_EQ9 in plan.scores else 1)
    probed = (PROBES + plan.reference_size) * (
        2 * EXACT_FORWARDS * derivatives + STEPS_TRIED * len(unit_stencil(plan, 0).points)
    )
    embedded = plan.reference_size if plan.clip_model is not None else 0
    return checkpoints * (product * products + probed) + embedded


@dataclass(frozen=True)
class Speed:
    """Speed of a model on its device.

    Attributes:
        first: forward passes per second.
        again: further passes of the same samples per second, whose frozen trunk has run.
        flops: operations of a forward pass of a sample.
        product: forward passes that a Hessian-vector product is worth.
        graph: samples of the largest piece of one.
    """

    first: float
    again: float
    flops: float
    product: float
    graph: int


def measure_speed(plan: Plan, model: ClipModel, batch: int) -> Speed:
    """Time a forward pass on the model's device, and count the others in it."""
    shadow = Shadow.of(model)
    first, again = _samples_a_second(model, shadow, min(batch, TIMED_BATCH[model.device.type]))
    flops = count_flops(shadow.forward(2, plan.reference_size)) / 2
    product = count_flops(shadow.product(2)) / 2 / flops  # less than all parameters' where a scope is counted
    return Speed(first, again, flops, product, graph_samples(model))


def time_estimate(plan: Plan, speed: Speed) -> TimeEstimate:
    each, checkpoints = forwards(plan), len(plan.checkpoints)
    seconds = checkpoints / speed.first + (each - checkpoints) / speed.again
    return TimeEstimate(
        forwards=each,
        gflops=round(speed.flops / 1e9, 3),
        samples_per_second=round(speed.first, 3),
        prepare_seconds=round(preparing_forwards(plan, speed.product, speed.graph) / speed.first, 1),
        score_seconds=round(plan.n_samples.value * seconds, 1),
        assumption=ASSUMPTION,
    )


def _samples_a_second(model: ClipModel, shadow: Shadow, samples: int) -> tuple[float, float]:
    """Return the speed of forward passes, and of further ones of the same samples, whose frozen trunk has run."""
    weights = model.weights(model.module.state_dict(), model.planned.name)
    encode, theta = model.encoder(weights.fixed), weights.theta
    shapes = shadow.pairs(samples)
    pairs = Pairs(*(torch.zeros_like(value, device=model.device) for value in vars(shapes).values()))
    with torch.no_grad():
        first = samples * _passes_a_second(lambda: encode(theta, pairs), model.device)
        if not model.frozen:
            return first, first
        with trunk_run_once(model.frozen):
            return first, samples * _passes_a_second(lambda: encode(theta, pairs), model.device)


def _passes_a_second(forward: Callable[[], object], device: torch.device) -> float:
    forward()  # the first one picks kernels, takes memory, and runs a frozen trunk
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    started, passes = time.perf_counter(), 0
    while time.perf_counter() - started < TIMED_SECONDS:
        forward()
        wait()
        passes += 1
    return passes / (time.perf_counter() - started)
