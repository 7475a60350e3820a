import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from diffin.accuracy import agreement, reliability, spearman
from diffin.layout import Layout


@given(st.lists(st.integers(0, 5), min_size=3, max_size=30), st.randoms())
def test_spearman_is_scipys(values, random):
    other = [random.randint(0, 5) for _ in values]
    if len(set(values)) > 1 and len(set(other)) > 1:
        ours = spearman(torch.tensor(values).double(), torch.tensor(other).double())
        assert ours == pytest.approx(float(spearmanr(values, other).statistic), abs=1e-9)


def test_agreement_is_relative_to_the_largest():
    found = agreement(torch.tensor([1.0, 2.0, 3.9]), torch.tensor([1.0, 2.0, 4.0]))
    assert found.worst_relative_error == pytest.approx(0.025)
    assert found.spearman == pytest.approx(1.0)
    assert not found.passes()


def test_zero_scores_agree_only_with_zero():
    zero = torch.zeros(4)
    assert agreement(zero, zero).passes()
    assert not agreement(torch.ones(4), zero).passes()


@given(st.lists(st.lists(st.integers(1, 4), max_size=3), min_size=1, max_size=5))
def test_layout_round_trip(shapes):
    params = {f"p{i}": torch.tensor(np.random.default_rng(i).normal(size=shape)) for i, shape in enumerate(shapes)}
    layout = Layout.of(params)
    vector = layout.flatten(params)
    assert len(vector) == layout.size
    for name, value in layout.unflatten(vector).items():
        assert torch.equal(value, params[name])


def test_flatten_refuses_another_shape():
    layout = Layout.of({"a": torch.zeros(2, 3)})
    with pytest.raises(ValueError, match=r"a: expected shape \(2, 3\), got \(3, 2\)"):
        layout.flatten({"a": torch.zeros(3, 2)})


def test_reliability_is_of_the_scores_that_both_draws_have():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(50, generator=generator)
    second = first + torch.randn(50, generator=generator)
    expected = spearmanr(first[1:], second[1:]).statistic
    first[0] = float("nan")
    found = reliability(first, second)
    assert found.samples == 49
    assert found.between_draws == pytest.approx(expected)
    assert found.of_mean == pytest.approx(2 * expected / (1 + expected))


def test_draws_that_disagree_have_no_reliability():
    found = reliability(torch.arange(5.0), -torch.arange(5.0))
    assert (found.between_draws, found.of_mean) == (pytest.approx(-1), 0.0)
