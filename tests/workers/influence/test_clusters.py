"""k-means of the reference batch: close points share a cluster, the seed decides, few points are enough."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from coreset_workers.influence.clusters import k_means, nearest


def points_around(centres: int, each: int, spread: float, seed: int = 0) -> Tensor:
    numbers = torch.Generator().manual_seed(seed)
    directions = torch.eye(max(centres, 8), dtype=torch.float64)[:centres]
    noise = torch.randn(centres, each, directions.shape[1], generator=numbers, dtype=torch.float64)
    return normalize((directions[:, None] + spread * noise).reshape(-1, directions.shape[1]))


@pytest.mark.parametrize("seed", range(5))
def test_points_around_a_few_centres_are_found_again(seed: int) -> None:
    points = points_around(5, 30, 0.05, seed)
    found = nearest(points, k_means(points, 5, seed)).reshape(5, 30)
    assert (found == found[:, :1]).all()
    assert len(set(found[:, 0].tolist())) == 5


@given(st.integers(1, 12), st.integers(0, 3), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_the_same_seed_gives_the_same_unit_centroids_and_each_is_the_mean_of_its_members(
    k: int, seed: int, count: int
) -> None:
    points = normalize(torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 4))))
    centroids = k_means(points, k, seed)
    assert torch.equal(centroids, k_means(points, k, seed))
    assert len(centroids) == min(k, count)
    members = nearest(points, centroids)
    for number in members.unique():
        mean = normalize(points[members == number].sum(0), dim=0)
        torch.testing.assert_close(centroids[number], mean)


def test_there_are_no_more_clusters_than_different_points() -> None:
    points = points_around(3, 1, 0.0).repeat(5, 1)
    assert len(k_means(points, 8, 0)) == 3
    assert len(k_means(points.float().double(), 2, 0)) == 2
