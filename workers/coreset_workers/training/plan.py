"""Plan of a run that a job trains: the pool's shards, the architecture and the budget, as they are now."""

import math
from collections.abc import Callable, Sequence

import torch

from coreset.errors import InvalidSpec
from coreset.schemas.plan import PlannedShard
from coreset.schemas.training import TrainingPlan, Validation
from coreset.spec.job import JobSpec, ValidationTarget
from coreset_workers.data.listing import list_shards
from coreset_workers.model.batch_size import free_bytes
from coreset_workers.model.clip import build, preprocess_cfg
from coreset_workers.training.defaults import budget, planned_model

COPIES = 2
"""Times that the decoded samples are in memory at once, while they are put into their order."""

MEMORY_SHARE = 0.5
"""Share of the free memory that the decoded samples may take."""


def plan_training(
    spec: JobSpec,
    shards: Sequence[PlannedShard],
    pool: float,
    device: torch.device,
    most: int,
    heartbeat: Callable[[], object] = lambda: None,
) -> TrainingPlan:
    """Return the plan of the run that a job's spec asks for.

    Args:
        shards: of the pool.
        pool: number of its samples.
        most: largest number of samples seen that the operator allows.

    Raises:
        InvalidInput: a shard does not exist, the architecture cannot be built, the budget is larger than allowed, or
            the samples do not fit into memory.
    """
    train = spec.train
    assert train is not None
    extent = budget(train, round(pool), device, most)
    model = planned_model(train, device)
    plan = TrainingPlan(
        shards=[_identity(shard) for shard in shards],
        caption_field=spec.pool.caption_field,
        validation=_validation(spec, heartbeat),
        model=model,
        samples=extent.samples,
        held_out=train.held_out,
        intervals=extent.intervals,
        interval_steps=extent.interval_steps,
        batch_size=extent.batch_size,
        lr=train.lr,
        seed=train.seed,
        checkpoints=train.checkpoints,
    )
    _require_room(plan)
    return plan


def _validation(spec: JobSpec, heartbeat: Callable[[], object]) -> Validation | None:
    """Return V as preparing draws it, by the seed of the reference batch; None without a validation pool."""
    target = spec.target
    if not isinstance(target, ValidationTarget):
        return None
    shards = [_identity(shard) for shard in list_shards(target.pool, heartbeat)]
    return Validation(
        shards=shards, caption_field=target.pool.caption_field, size=target.size, seed=spec.reference.seed
    )


def _identity(shard: PlannedShard) -> PlannedShard:
    """Return a shard without what the files beside it announce, which decides nothing here."""
    return shard.model_copy(update={"expected": None, "expected_source": None})


def bytes_in_memory(plan: TrainingPlan) -> int:
    """Return the bytes of the decoded samples. Raises CheckpointUnusable if the model cannot be built."""
    size = preprocess_cfg(plan.model, build(plan.model)).size
    pixels = math.prod(size) if isinstance(size, tuple) else size**2
    return COPIES * 3 * pixels * plan.samples


def _require_room(plan: TrainingPlan) -> None:
    needed, free = bytes_in_memory(plan), free_bytes(torch.device("cpu"))
    if needed > MEMORY_SHARE * free:
        raise InvalidSpec(
            f"training keeps its {plan.samples:,} samples decoded in memory, about {needed / 1e9:,.1f} GB, of which "
            f"{free / 1e9:,.1f} GB are free and half may be taken. Give a smaller `checkpoints.train.samples`, or a "
            "model with a smaller image.",
            field="checkpoints.train.samples",
        )
