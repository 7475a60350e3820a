"""The frozen trunk: run once, and what comes out is bit for bit what it is without it."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

from diffin.trunk import frozen_modules, trunk_run_once


class Counted(nn.Module):
    """A linear layer that counts its passes."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.inner = nn.Linear(size, size)
        self.passes = 0

    def forward(self, x: torch.Tensor, *, scale: float = 1.0) -> torch.Tensor:
        self.passes += 1
        return torch.tanh(self.inner(x)) * scale


class Tower(nn.Module):
    """Four layers in a row, with plain arithmetic between them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Counted(4) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x + 1.0, scale=0.5)
        return x

    @property
    def passes(self) -> list[int]:
        return [layer.passes for layer in self.layers]


@pytest.fixture
def tower() -> Tower:
    torch.manual_seed(0)
    return Tower().requires_grad_(False)


def at_points(tower: Tower, name: str, count: int = 3) -> list[torch.Tensor]:
    x = torch.ones(2, 4)
    weight = tower.get_parameter(name)
    return [functional_call(tower, {name: weight * (1 + 0.1 * j)}, (x,)) for j in range(count)]


def test_only_what_a_counted_parameter_reaches_runs_again(tower: Tower) -> None:
    name = "layers.2.inner.weight"
    expected = at_points(tower, name)
    before = tower.passes
    with trunk_run_once(frozen_modules(tower, [name])):
        found = at_points(tower, name)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert [now - then for now, then in zip(tower.passes, before, strict=True)] == [1, 1, 3, 3]


def test_frozen_modules_are_the_outermost(tower: Tower) -> None:
    found = frozen_modules(tower, ["layers.2.inner.bias"])
    assert found == [tower.layers[0], tower.layers[1], tower.layers[3]]
    assert frozen_modules(tower, [name for name, _ in tower.named_parameters()]) == []
    assert frozen_modules(tower, []) == [tower.layers]


def test_another_batch_and_other_arguments_run_again(tower: Tower) -> None:
    layer: Any = tower.layers[0]
    with trunk_run_once([layer]):
        outputs = [layer(torch.ones(2, 4)), layer(torch.zeros(2, 4)), layer(torch.zeros(2, 4), scale=2.0)]
    assert layer.passes == 3
    assert not torch.equal(outputs[0], outputs[1])
    torch.testing.assert_close(outputs[2], 2 * outputs[1])


def test_the_module_is_as_before_also_after_an_error(tower: Tower) -> None:
    layer = tower.layers[0]
    with pytest.raises(RuntimeError), trunk_run_once([layer]):
        layer(torch.ones(2, 5))
    assert "forward" not in vars(layer)
