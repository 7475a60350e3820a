"""Plan of an evaluation, made before anything is scored: the test's shards and the proxies' architecture."""

import math
from collections.abc import Callable

import torch

from coreset.errors import InvalidSpec
from coreset.schemas.manifest import Selection
from coreset.schemas.plan import Plan, PlannedModel
from coreset.schemas.trials import ProxyPlan, Trials
from coreset.selection.select import count_samples
from coreset.selection.trial_plan import plan_trials
from coreset.spec.evaluation import EvaluateSpec
from coreset.spec.model import ModelSpec
from coreset.spec.proxies import PROXY_MODEL, PROXY_NAME
from coreset.storage.layout import PlanFolder, summary_name
from coreset.storage.storage import Storage
from coreset_workers.checkpoints.architecture import registered
from coreset_workers.data.listing import list_shards
from coreset_workers.model.batch_size import free_bytes
from coreset_workers.model.clip import build, preprocess_cfg

HELD_SHARE = 0.5
"""Of the free memory, that a pool may take at the proxies' resolution."""


def plan_proxies(spec: EvaluateSpec, plan: Plan, heartbeat: Callable[[], object] = lambda: None) -> ProxyPlan:
    """Plan the proxies of an evaluation: the shards of the test and the architecture, as they are now.

    Raises:
        InvalidInput: a test shard does not exist or is one of the pool's, the architecture cannot be built, or the
            pool does not fit into memory.
    """
    test = list_shards(spec.test, heartbeat)
    scored = {shard.label for shard in plan.shards}
    if shared := [shard.label for shard in test if shard.label in scored]:
        raise InvalidSpec(
            f"evaluate.test must be held out, but {len(shared)} of its shards are the pool's: {shared[0]}",
            field="evaluate.test",
            shards=shared[:10],
        )
    model = planned_proxy(spec.model)
    _require_room(plan, model)
    return ProxyPlan(model=model, test=test, caption_field=spec.test.caption_field)


def planned_proxy(spec: ModelSpec | None) -> PlannedModel:
    """Return the proxies' architecture. Raises CheckpointUnusable if open_clip knows none of that name."""
    if spec is None:
        return PlannedModel(name=PROXY_NAME, config=PROXY_MODEL, source="default")
    name = spec.name or PROXY_NAME
    return PlannedModel(name=name, config=spec.config or registered(name), source="spec")


def _require_room(plan: Plan, model: PlannedModel) -> None:
    """Raise InvalidSpec if the decoded pool would not fit into this machine's memory, and CheckpointUnusable if the
    model cannot be built.
    """
    size = preprocess_cfg(model, build(model)).size
    pixels = math.prod(size) if isinstance(size, tuple) else size**2
    needed, free = 3 * pixels * plan.n_samples.value, free_bytes(torch.device("cpu"))
    if needed > HELD_SHARE * free:
        raise InvalidSpec(
            f"an evaluation holds the pool in memory at its proxies' {pixels:,} pixels: about {needed / 1e9:,.1f} GB, "
            f"of which {free / 1e9:,.1f} GB are free, and half may be taken. Score and evaluate a part of the shards.",
            field="evaluate",
        )


def make_trials(storage: Storage, plan: Plan, spec: EvaluateSpec, world: ProxyPlan, selection: Selection) -> Trials:
    """Return the trials of a job whose shards are scored."""
    names = set(storage.names(PlanFolder(plan.id).parts))
    left_out = [shard.index for shard in plan.shards if summary_name(shard.index) not in names]
    return plan_trials(spec, plan, world, selection, count_samples(storage, plan), left_out)
