"""Optimizer states of checkpoints: steps, learning rates, and Adam's preconditioner by parameter."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

ADAMS = ("adamw", "timm/adamw", "timm/adam")
"""Values of the trainer's --opt whose update is Adam's: P times the momentum."""

ADAM_STATE = {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"}
"""Names in Adam's state. Relatives with an update of their own, such as Adan, have others besides."""

Shapes = dict[str, torch.Size]


def optimizer_step(optimizer: dict[str, Any] | None) -> int | None:
    """Return the largest step count of an optimizer's state; None if it counts none."""
    steps = [int(state["step"]) for state in _states(optimizer) if "step" in state]
    return max(steps, default=None)


def optimizer_lr(optimizer: dict[str, Any] | None) -> float | None:
    """Return the largest lr of the parameter groups, the base one under layer decay; None without groups."""
    groups = (optimizer or {}).get("param_groups") or []
    rates = [float(group["lr"]) for group in groups if "lr" in group]
    return max(rates, default=None)


def is_adam(optimizer: dict[str, Any] | None, name: str | None) -> bool:
    """Return whether an optimizer's state has Adam's second moments.

    Args:
        name: --opt of the trainer, if it is known. LAMB's state has Adam's names, and its update is another.
    """
    if name is not None and name.lower() not in ADAMS:
        return False
    groups = (optimizer or {}).get("param_groups") or []
    if any("trust_clip" in group for group in groups if isinstance(group, dict)):  # LAMB
        return False
    states = [state for state in _states(optimizer) if state]
    return bool(states) and all("exp_avg_sq" in state and state.keys() <= ADAM_STATE for state in states)


def _states(optimizer: dict[str, Any] | None) -> list[dict[str, Any]]:
    states = (optimizer or {}).get("state") or {}
    return [state for state in states.values() if isinstance(state, dict)]


def adam_preconditioner(
    optimizer: dict[str, Any] | None, shapes: Shapes, counted: Collection[str]
) -> dict[str, Tensor] | None:
    """Return P = 1 / (sqrt(v_hat) + eps) of the counted parameters by name; None if the state does not give it.

    Where v is 0 no sample has ever had a gradient, and P is 0: 1 / eps there, for the embeddings of words that only V
    has, let the trace of V's gradient explode (docs/method.md, section 8).

    The state is keyed by position in the parameter groups, so the order of the names must be known: see `_orders`.

    Args:
        shapes: of the trained parameters by name, in the model's order.
        counted: names of the parameters to return. The others need no state: they may never have had a gradient.
    """
    groups, states = (optimizer or {}).get("param_groups"), (optimizer or {}).get("state")
    if not groups or not states:
        return None
    positions = [index for group in groups for index in group["params"]]
    names = next((names for names in _orders(groups, shapes) if _fits(names, positions, states, shapes)), None)
    if names is None:
        return None
    betas = {
        index: (group["betas"][1], group["eps"]) for group in groups if "betas" in group for index in group["params"]
    }
    preconditioner: dict[str, Tensor] = {}
    for name, index in zip(names, positions, strict=True):
        if name not in counted:
            continue
        second = _second_moments(states, index)
        if second is None or index not in betas or not int(states[index]["step"]):
            return None
        beta, eps = betas[index]
        steps = 1 / ((second.float() / (1 - beta ** int(states[index]["step"]))).sqrt() + eps)
        preconditioner[name] = torch.where(second == 0, 0, steps)
    return preconditioner if all(value.isfinite().all() for value in preconditioner.values()) else None


def _second_moments(states: dict[int, Any], index: int) -> Tensor | None:
    return (states.get(index) or {}).get("exp_avg_sq")


def _fits(names: Sequence[str], positions: Sequence[int], states: dict[int, Any], shapes: Shapes) -> bool:
    """Return whether names in this order have the shapes of the state's second moments."""
    if len(names) != len(positions):
        return False
    moments = (_second_moments(states, index) for index in positions)
    return all(second is None or second.shape == shapes[name] for name, second in zip(names, moments, strict=True))


def _orders(groups: list[dict[str, Any]], shapes: Shapes) -> list[list[str]]:
    """Return the orders of the names that fit the sizes of the parameter groups.

    open_clip up to 3.x has two groups, the parameters without weight decay first, and finds those by words in their
    names; timm finds them by shape and by a list of the model's. Newer open_clips give `group_name`, `no_wd` or `wd`,
    in the order in which the groups appear. Without weight decay timm has one group.
    """
    names = list(shapes)
    vectors = {name for name in names if len(shapes[name]) < 2}
    if all("group_name" in group for group in groups):
        plain = vectors | {name for name in names if name.endswith(("logit_scale", "positional_embedding"))}
        by_group = {"no_wd": [n for n in names if n in plain], "wd": [n for n in names if n not in plain]}
        return [[name for group in groups for name in by_group.get(group["group_name"], [])]]
    if len(groups) == 1:
        return [names]
    words = vectors | {n for n in names if any(word in n for word in ("bn", "ln", "bias", "logit_scale"))}
    listed = vectors | {n for n in names if n.endswith((".bias", "positional_embedding"))}
    sizes = [len(group["params"]) for group in groups]
    return [
        [n for n in names if n in plain] + [n for n in names if n not in plain]
        for plain in (words, listed)
        if sizes == [len(plain), len(names) - len(plain)]
    ]
