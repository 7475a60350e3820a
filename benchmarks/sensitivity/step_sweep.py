"""The error of each difference as its step runs over six decades, on a small CLIP that open_clip's own trainer trained.

Relative errors are those that the calibration of a job looks at: on its probes, against exact derivatives in float64.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coreset.schemas.plan import Plan
from coreset.spec.job import CheckpointsSpec, JobSpec, ReferenceSpec, ValidationTarget
from coreset.spec.pool import PoolSpec, ScoredPoolSpec
from coreset.spec.selection import SelectSpec
from coreset_workers.data.loader import Loader
from coreset_workers.influence.trace import Traced, draw_samples, trace
from coreset_workers.model.inputs import views
from coreset_workers.stages.plan import make_plan
from demo.pool import write_pool, write_sound_shard
from demo.train import Training, train
from diffin import stencil as st
from diffin.accuracy import relative_error
from diffin.calibrate import evaluate
from diffin.exact import double, exact_terms
from diffin.prepare import Checkpoint, Directions, Problem, Steps, prepare

SAMPLES, VALIDATION, REFERENCE = 900, 64, 64
TRAINING = Training(epochs=3, loader_workers=0)
TRAINED = "V = training", "V = validation"
DTYPES = {"float32": torch.float32, "float64": torch.float64}
FACTORS = np.logspace(-3, 3, 19)
"""Of the step that the calibration chose in float32."""

Make = Callable[[float], st.Stencil]


def measure(seeds: Sequence[int], training: Training = TRAINING, samples: int = SAMPLES) -> dict[str, Any]:
    """Train on a pool of the first seed, and return each difference's errors at the first and the last checkpoint."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shards = [str(path) for path in write_pool(folder / "pool", samples, shards=2, seed=seeds[0])]
        write_sound_shard(folder / "validation" / "000000.tar", VALIDATION, seed=seeds[0] + 1000)
        directory = train(folder / "pool", folder / "logs", training)
        target = ValidationTarget(pool=PoolSpec(shards=[str(folder / "validation" / "000000.tar")]), size=VALIDATION)
        plans = [_plan(shards, directory, wanted) for wanted in ("training", target)]
        found = {label: _by_target(plan) for label, plan in zip(TRAINED, plans, strict=True)}
    return {"samples": samples, "reference": REFERENCE, "epochs": training.epochs, "differences": found}


def _plan(shards: list[str], directory: Path, target: Any) -> Plan:
    spec = JobSpec(
        pool=ScoredPoolSpec(shards=shards),
        checkpoints=CheckpointsSpec(run=str(directory)),
        target=target,
        reference=ReferenceSpec(size=REFERENCE),
        select=SelectSpec(fraction=0.5),
    )
    return make_plan(spec)[0]


def _by_target(plan: Plan) -> list[dict[str, Any]]:
    """Return the errors at the first and the last checkpoint, in both precisions."""
    silent = lambda stage, share: None  # noqa: E731
    drawn = draw_samples(plan, Loader(views(plan), plan.caption_field, processes=0), silent)
    device = torch.device("cpu")
    traced = {name: trace(plan, drawn, device, dtype, silent) for name, dtype in DTYPES.items()}
    return [_at(traced, index, len(plan.checkpoints)) for index in (0, len(plan.checkpoints) - 1)]


def _at(traced: dict[str, Traced], index: int, checkpoints: int) -> dict[str, Any]:
    """Return, by difference and precision, the chosen step and the errors along the sweep."""
    chosen = {
        name: prepare(t.problem, t.checkpoints[index], t.directions[index], checkpoints, centre=False).steps
        for name, t in traced.items()
    }
    found: dict[str, Any] = {"checkpoint": index + 1, "step": traced["float32"].checkpoints[index].step}
    for difference, (make, estimator, direction) in differences(chosen["float32"]).items():
        centre = chosen["float32"][estimator].steps[direction]
        unit = _share(traced["float32"], index, direction)
        found[difference] = {
            name: {
                "chosen": _chosen(chosen[name][estimator], direction, unit),
                "errors": errors(t.problem, t.checkpoints[index], t.directions[index], make, centre * FACTORS, unit),
            }
            for name, t in traced.items()
        }
    return found


def _share(traced: Traced, index: int, direction: str) -> float:
    """Return how far a step of 1 moves theta, relative to its norm."""
    return float(traced.directions[index][direction].norm() / traced.checkpoints[index].segment.theta.norm())


def _chosen(steps: Steps, direction: str, unit: float) -> dict[str, float]:
    step = steps.steps[direction]
    return {"h": step, "move": step * unit, "error": steps.error}


def differences(chosen: dict[str, Steps]) -> dict[str, tuple[Make, str, str]]:
    """Return (step -> stencil, an estimator, what the step is along) of the differences that a job takes.

    Args:
        chosen: by estimator. Of two steps the second keeps its ratio to the first.
    """
    found: dict[str, tuple[Make, str, str]] = {
        "diffin": (lambda h: st.first_difference("diffin", "influence", h), "diffin", "influence")
    }
    steps = chosen["diffin_eq9"].steps
    if "target_gradient" not in steps:
        return found | {"curve": (st.curve, "diffin_eq9", "gradient")}
    ratio = steps["gradient"] / steps["target_gradient"]
    return found | {"mixed": (lambda h: st.mixed(h, h * ratio), "diffin_eq9", "target_gradient")}


def errors(
    problem: Problem, checkpoint: Checkpoint, directions: Directions, make: Make, steps: np.ndarray, unit: float
) -> list[dict[str, float | None]]:
    """Return each estimator's relative error at each step; None where a loss is not finite."""
    theta = checkpoint.segment.theta
    exact = exact_terms(checkpoint.samples64, theta.double(), double(directions), problem.probes64)
    found = []
    for step in steps.tolist():
        fast = evaluate(checkpoint.samples, theta, directions, make(step), problem.probes)
        row: dict[str, float | None] = {"h": step, "move": step * unit}
        found.append(row | {name: _error(value, exact[name]) for name, value in fast.items()})
    return found


def _error(fast: Tensor, exact: Tensor) -> float | None:
    value = relative_error(fast, exact)
    return value if np.isfinite(value) else None
