"""Any torch module as a function of a flat parameter vector."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from diffin.layout import Layout


@dataclass(frozen=True)
class FunctionalModule:
    """A module as a function of theta (p,), in theta's precision. Make it by `of`.

    Attributes:
        module: in eval mode; its own parameters are read by `theta` alone, and never written.
        layout: of its parameters; a tied one counts once.
    """

    module: nn.Module
    layout: Layout

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        """Raise ValueError if the module is in training mode: its loss would depend on the batch, or on chance."""
        if module.training:
            raise ValueError(f"{type(module).__name__} is in training mode: call eval() on it first")
        return cls(module, Layout.of(dict(module.named_parameters())))

    @property
    def theta(self) -> Tensor:
        """The module's parameters now (p,)."""
        return self.layout.flatten(dict(self.module.named_parameters())).detach()

    def __call__(self, theta: Tensor, *inputs: Any) -> Any:
        """Return the module's output at theta (p,), buffers that are not persistent in theta's precision too."""
        buffers = {name: _like(value, theta) for name, value in self.module.named_buffers()}
        return functional_call(self.module, self.layout.unflatten(theta) | buffers, inputs)


def _like(value: Tensor, theta: Tensor) -> Tensor:
    return value.to(theta.dtype) if torch.is_floating_point(value) else value
