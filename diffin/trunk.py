"""The frozen trunk: what no counted parameter reaches is run once for a batch, not once for each point."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def frozen_modules(module: nn.Module, counted: Collection[str]) -> list[nn.Module]:
    """Return the outermost submodules that have parameters, but none that is counted."""
    moved = set(counted)
    found: list[nn.Module] = []
    inside: list[str] = []
    for path, child in module.named_modules():
        names = [f"{path}.{name}" for name, _ in child.named_parameters()]
        if path and names and moved.isdisjoint(names) and not path.startswith(tuple(inside)):
            found.append(child)
            inside.append(f"{path}.")
    return found


@contextmanager
def trunk_run_once(frozen: Collection[nn.Module]) -> Iterator[None]:
    """Within it, a frozen module that is called again with equal inputs gives the output that it gave before.

    For forward passes of one batch at several points of one checkpoint: modules before the first counted parameter
    see the same inputs each time, those behind it see others and run. Not for automatic differentiation. It holds the
    last inputs and output of each frozen module until it ends.
    """
    for module in frozen:
        module.forward = _Remembered(module.forward)  # shadows the method of the class
    try:
        yield
    finally:
        for module in frozen:
            del module.forward


class _Remembered:
    def __init__(self, forward: Any) -> None:
        self._forward = forward
        self._inputs: Arguments | None = None
        self._output: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._inputs is None or not _same(self._inputs, (args, kwargs)):
            self._output = self._forward(*args, **kwargs)
            self._inputs = args, kwargs
        return self._output


def _same(before: Any, now: Any) -> bool:
    if before is now:
        return True
    if isinstance(before, Tensor) and isinstance(now, Tensor):
        return before.shape == now.shape and before.dtype == now.dtype and torch.equal(before, now)
    if isinstance(before, tuple) and isinstance(now, tuple):
        return len(before) == len(now) and all(_same(a, b) for a, b in zip(before, now, strict=True))
    if isinstance(before, dict) and isinstance(now, dict):
        return before.keys() == now.keys() and all(_same(before[key], now[key]) for key in before)
    return bool(type(before) is type(now) and before == now)
