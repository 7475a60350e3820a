"""Clusters of the target V: the number of its samples in each cluster of similar images."""

import json

from coreset.errors import NotFound
from coreset.schemas.plan import Plan
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage


def save_target_clusters(storage: Storage, plan: Plan, members: list[int]) -> None:
    """Store the number of samples of V in each cluster, in the order of the clusters."""
    storage.write(PlanFolder(plan.id).target_clusters, json.dumps(members).encode())


def load_target_clusters(storage: Storage, plan: Plan) -> list[int]:
    """Return the number of samples of V in each cluster; [] if V is the training itself, or was not clustered."""
    try:
        return json.loads(storage.read(PlanFolder(plan.id).target_clusters))
    except NotFound:
        return []
