"""Derivatives of functions of a flat vector, by torch.func, under kernels that have them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Function = Callable[[Tensor], Tensor]


@contextmanager
def differentiable_kernels() -> Iterator[None]:
    """Use attention kernels that forward-mode and second derivatives go through.

    The fused ones have no forward-mode derivative (pytorch#98164), and nn.MultiheadAttention's fast path has none
    of either kind.
    """
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)


def derivative(function: Function, theta: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Return f(theta) and D_direction f(theta), exact to round-off, by one forward-mode pass."""
    with differentiable_kernels():
        value, tangent = torch.func.jvp(function, (theta,), (direction,))[:2]
    return value.detach(), tangent.detach()


def gradient(function: Function, theta: Tensor) -> Tensor:
    """Return the gradient (p,) of a scalar function."""
    with differentiable_kernels():
        return torch.func.grad(function)(theta).detach()


def hvp(function: Function, theta: Tensor, direction: Tensor, extra: Function | None = None) -> Tensor:
    """Return H direction (p,), H the Hessian of a scalar function, plus the gradient of `extra` if there is one.

    Reverse over reverse mode. Forward over reverse is as exact, but its Python decompositions cost five times as much
    on small models; forward over forward is silently wrong through F.layer_norm (docs/method.md).
    """
    theta = theta.detach().requires_grad_()
    with differentiable_kernels(), torch.enable_grad():
        slope = torch.autograd.grad(function(theta), theta, create_graph=True)[0]
        along = slope @ direction if extra is None else slope @ direction + extra(theta)
        if not along.requires_grad:  # the function is linear
            return torch.zeros_like(theta)
        return torch.autograd.grad(along, theta)[0]
