"""What the prepare task leaves for the score tasks: B's embeddings, directions and stencils, a file a checkpoint."""

import json
from dataclasses import dataclass, field

import safetensors.torch
import torch
from pydantic import Field
from torch import Tensor

from coreset.schemas.manifest import Accuracy, Reliability, Steps, TracedSegment
from coreset.schemas.plan import Plan
from coreset.spec.base import FrozenModel
from coreset.spec.scores import Score
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage
from diffin.contrastive import Encoded
from diffin.stencil import Coefficients, Stencil


class Preparation(FrozenModel):
    """The outcome of preparing a plan; its file is written last, so where it is, all is there."""

    precision: str
    accuracy: dict[Score, Accuracy] = Field(default_factory=dict)
    reliability: dict[Score, Reliability] = Field(default_factory=dict)
    traced: list[list[TracedSegment]] = Field(default_factory=list, description="by draw of minibatches and checkpoint")
    reference_uids: list[str]
    parameters_counted: int
    parameters_total: int
    warnings: list[str] = Field(default_factory=list)
    steps: list[dict[Score, Steps]] = Field(default_factory=list, description="by checkpoint and estimator")
    seconds: dict[str, float] = Field(default_factory=dict)


@dataclass(frozen=True)
class PreparedCheckpoint:
    """What scoring at one checkpoint needs besides its weights.

    Attributes:
        directions: (p,) those that the stencil uses.
        contexts: B's embeddings at each point.
        slopes: by direction, B's embeddings at the checkpoint and their derivative along it.
    """

    stencil: Stencil
    directions: dict[str, Tensor]
    contexts: list[Encoded]
    slopes: dict[str, tuple[Encoded, Encoded]] = field(default_factory=dict)


def save_checkpoint(storage: Storage, plan: Plan, index: int, prepared: PreparedCheckpoint) -> None:
    tensors = {f"direction/{name}": value.contiguous().cpu() for name, value in prepared.directions.items()}
    for j, context in enumerate(prepared.contexts):
        tensors |= {f"context/{j}/{name}": value.contiguous().cpu() for name, value in vars(context).items()}
    for direction, (value, speed) in prepared.slopes.items():
        tensors |= {f"slope/{direction}/value/{name}": v.contiguous().cpu() for name, v in vars(value).items()}
        tensors |= {f"slope/{direction}/speed/{name}": v.contiguous().cpu() for name, v in vars(speed).items()}
    stencil = json.dumps(vars(prepared.stencil))
    data = safetensors.torch.save(tensors, metadata={"stencil": stencil})
    storage.write(PlanFolder(plan.id).prepared_checkpoint(index), data)
    storage.write(PlanFolder(plan.id).prepared_stencil(index), stencil.encode())


def load_checkpoint(storage: Storage, plan: Plan, index: int, device: torch.device) -> PreparedCheckpoint:
    tensors = safetensors.torch.load(storage.read(PlanFolder(plan.id).prepared_checkpoint(index)))
    stencil = load_stencil(storage, plan, index)
    directions = {n.removeprefix("direction/"): v for n, v in tensors.items() if n.startswith("direction/")}
    contexts = [load_encoded(tensors, f"context/{j}/", device) for j in range(len(stencil.points))]
    load = lambda name, kind: load_encoded(tensors, f"slope/{name}/{kind}/", device)  # noqa: E731
    slopes = {name: (load(name, "value"), load(name, "speed")) for name in stencil.slopes}
    return PreparedCheckpoint(stencil, directions, contexts, slopes)


def load_stencil(storage: Storage, plan: Plan, index: int) -> Stencil:
    raw = json.loads(storage.read(PlanFolder(plan.id).prepared_stencil(index)))
    points: tuple[Coefficients, ...] = tuple(tuple((n, c) for n, c in point) for point in raw["points"])
    return Stencil(points, {name: tuple(row) for name, row in raw["weights"].items()}, tuple(raw["slopes"]))


def load_encoded(tensors: dict[str, Tensor], prefix: str, device: torch.device) -> Encoded:
    return Encoded(*(tensors[prefix + name].to(device) for name in ("image", "text", "scale", "bias")))


def save_tensors(storage: Storage, plan: Plan, name: str, tensors: dict[str, Tensor]) -> None:
    data = safetensors.torch.save({key: value.contiguous().cpu() for key, value in tensors.items()})
    storage.write(PlanFolder(plan.id).prepared_tensors(name), data)


def load_tensors(storage: Storage, plan: Plan, name: str) -> dict[str, Tensor]:
    return safetensors.torch.load(storage.read(PlanFolder(plan.id).prepared_tensors(name)))


def save_preparation(storage: Storage, plan: Plan, preparation: Preparation) -> None:
    storage.write(PlanFolder(plan.id).preparation, preparation.model_dump_json(indent=2).encode())


def load_preparation(storage: Storage, plan: Plan) -> Preparation | None:
    """Return the preparation, or None if the plan is not prepared yet."""
    name = PlanFolder(plan.id).preparation
    return Preparation.model_validate_json(storage.read(name)) if storage.exists(name) else None
