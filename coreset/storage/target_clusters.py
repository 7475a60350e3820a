"""What the target V is made of: how many of its samples each cluster of alike images has."""

import json

from coreset.errors import NotFound
from coreset.schemas.plan import Plan
from coreset.storage.storage import Storage


def save_target_clusters(storage: Storage, plan: Plan, members: list[int]) -> None:
    """Store how many samples of V each cluster has, in the order of the clusters."""
    storage.write(_path(plan), json.dumps(members).encode())


def target_clusters(storage: Storage, plan: Plan) -> list[int]:
    """Return how many samples of V each cluster has; [] where V is the training itself, or was not looked at."""
    try:
        return json.loads(storage.read(_path(plan)))
    except NotFound:
        return []


def _path(plan: Plan) -> str:
    return f"plans/{plan.id}/prepared/target_clusters.json"
