"""Clusters of the target V: the number of its samples in each cluster of similar images."""

import json

from coreset.schemas.plan import Plan
from coreset.spec.job import ValidationTarget
from coreset.storage.layout import PlanFolder
from coreset.storage.plan_files import read_prepared
from coreset.storage.storage import Storage
from coreset.storage.verified import damaged


def save_target_clusters(storage: Storage, plan: Plan, members: list[int]) -> None:
    """Store the number of samples of V in each cluster, in the order of the clusters."""
    storage.write(PlanFolder(plan.id).target_clusters, json.dumps(members).encode())


def load_target_clusters(storage: Storage, plan: Plan) -> list[int]:
    """Return the number of samples of V in each cluster; [] if V is the training itself, or was not clustered.

    Raises:
        DamagedFile: V was clustered, but the file is damaged or gone.
    """
    name = PlanFolder(plan.id).target_clusters
    clustered = plan.clusters > 0 and isinstance(plan.target, ValidationTarget)
    if not clustered and not storage.exists(name):
        return []
    data = read_prepared(storage, plan.id, name)
    try:
        return json.loads(data)
    except ValueError as error:
        raise damaged(name, "it cannot be parsed") from error
