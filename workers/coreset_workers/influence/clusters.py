"""Clusters of similar images: k-means over B's image embeddings, made once a plan; each sample goes to the nearest."""

import numpy as np
import torch
from torch import Tensor

from coreset.schemas.plan import Plan
from coreset.storage.storage import Storage
from coreset_workers.influence import prepared_files as prepared

ROUNDS = 50
FILE = "clusters"


def store_centroids(storage: Storage, plan: Plan, embeddings: Tensor) -> Tensor:
    """Find the plan's clusters of embeddings (n, d), store their centroids (c, d), and return them."""
    centroids = k_means(embeddings.cpu().double(), plan.clusters, plan.reference_seed)
    prepared.save_tensors(storage, plan, FILE, {"centroids": centroids})
    return centroids


def load_centroids(storage: Storage, plan: Plan) -> Tensor:
    """Return the centroids (c, d) float64."""
    return prepared.load_tensors(storage, plan, FILE)["centroids"]


def k_means(points: Tensor, k: int, seed: int) -> Tensor:
    """Return the centroids (c, d) of unit points (n, d) by cosine: c is k, or that of different points if fewer."""
    centroids = _spread(points, k, np.random.default_rng(seed))
    members = nearest(points, centroids)
    for _ in range(ROUNDS):
        sums = torch.zeros_like(centroids).index_add_(0, members, points)
        there = sums.norm(dim=1) > 0  # a cluster that lost all its members stays where it is
        centroids[there] = torch.nn.functional.normalize(sums[there])
        moved = nearest(points, centroids)
        if torch.equal(moved, members):
            break
        members = moved
    return centroids


def nearest(points: Tensor, centroids: Tensor) -> Tensor:
    """Return the number (n,) of the centroid with the largest cosine; of equal ones the first."""
    return (points.to(centroids) @ centroids.T).argmax(1)


def _spread(points: Tensor, k: int, numbers: np.random.Generator) -> Tensor:
    """Draw the first centroids as k-means++ does: a point's chance grows with its distance to those drawn before."""
    drawn = [points[int(numbers.integers(len(points)))]]
    distances = _distances(points, drawn[0])
    while len(drawn) < k and distances.sum() > 0:
        drawn.append(points[int(numbers.choice(len(points), p=(distances / distances.sum()).numpy()))])
        distances = torch.minimum(distances, _distances(points, drawn[-1]))
    return torch.stack(drawn)


ROUND_OFF = 1e-6
"""Squared distance of float32 embeddings of one image, at most."""


def _distances(points: Tensor, centre: Tensor) -> Tensor:
    """Return the squared distances (n,); those of equal points are 0."""
    found = (points - centre).square().sum(1)
    return found.where(found > ROUND_OFF, 0.0)
