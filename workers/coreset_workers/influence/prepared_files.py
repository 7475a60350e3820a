"""What the prepare task leaves for the score tasks: B's embeddings, directions and stencils, a file a checkpoint."""

import json
import posixpath
from dataclasses import dataclass, field

import safetensors.torch
import torch
from pydantic import Field
from safetensors import SafetensorError
from torch import Tensor

from coreset.errors import DamagedFile, NotFound
from coreset.schemas.horizon import Horizon
from coreset.schemas.manifest import Accuracy, Steps
from coreset.schemas.plan import Plan
from coreset.spec.base import FrozenModel
from coreset.spec.scores import Score
from coreset.storage.layout import PlanFolder
from coreset.storage.plan_files import read_prepared
from coreset.storage.storage import Storage
from coreset.storage.target_clusters import load_target_clusters
from coreset.storage.verified import damaged, load_json, write_json
from diffin.contrastive import Encoded
from diffin.stencil import Coefficients, Stencil


class Preparation(FrozenModel):
    """The outcome of preparing a plan; its file is written last, so where it is, all is there."""

    precision: str
    accuracy: dict[Score, Accuracy] = Field(default_factory=dict)
    reference_uids: list[str]
    parameters_counted: int
    parameters_total: int
    warnings: list[str] = Field(default_factory=list)
    horizon: Horizon | None = None
    steps: list[dict[Score, Steps]] = Field(default_factory=list, description="by checkpoint and estimator")
    seconds: dict[str, float] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict, description="sha256 of the other prepared files, by path")


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
    tensors = _tensors(storage, plan, PlanFolder(plan.id).prepared_checkpoint(index))
    stencil = load_stencil(storage, plan, index)
    directions = {n.removeprefix("direction/"): v for n, v in tensors.items() if n.startswith("direction/")}
    contexts = [load_encoded(tensors, f"context/{j}/", device) for j in range(len(stencil.points))]
    load = lambda name, kind: load_encoded(tensors, f"slope/{name}/{kind}/", device)  # noqa: E731
    slopes = {name: (load(name, "value"), load(name, "speed")) for name in stencil.slopes}
    return PreparedCheckpoint(stencil, directions, contexts, slopes)


def load_stencil(storage: Storage, plan: Plan, index: int) -> Stencil:
    raw = json.loads(read_prepared(storage, plan.id, PlanFolder(plan.id).prepared_stencil(index)))
    points: tuple[Coefficients, ...] = tuple(tuple((n, c) for n, c in point) for point in raw["points"])
    return Stencil(points, {name: tuple(row) for name, row in raw["weights"].items()}, tuple(raw["slopes"]))


def load_encoded(tensors: dict[str, Tensor], prefix: str, device: torch.device) -> Encoded:
    return Encoded(*(tensors[prefix + name].to(device) for name in ("image", "text", "scale", "bias")))


def save_tensors(storage: Storage, plan: Plan, name: str, tensors: dict[str, Tensor]) -> None:
    data = safetensors.torch.save({key: value.contiguous().cpu() for key, value in tensors.items()})
    storage.write(PlanFolder(plan.id).prepared_tensors(name), data)


def load_tensors(storage: Storage, plan: Plan, name: str) -> dict[str, Tensor]:
    return _tensors(storage, plan, PlanFolder(plan.id).prepared_tensors(name))


def _tensors(storage: Storage, plan: Plan, path: str) -> dict[str, Tensor]:
    """Return the tensors of a prepared file. Raises DamagedFile."""
    try:
        return safetensors.torch.load(read_prepared(storage, plan.id, path))
    except SafetensorError as error:  # of a plan whose hashes are not recorded
        raise damaged(path, "it cannot be parsed") from error


def save_preparation(storage: Storage, plan: Plan, preparation: Preparation) -> None:
    write_json(storage, PlanFolder(plan.id).preparation, preparation.model_dump_json(indent=2))


def load_preparation(storage: Storage, plan: Plan) -> Preparation | None:
    """Return the preparation, or None if the plan is not prepared yet, or not any more: a file is gone or damaged.

    Tensors are verified when they are loaded, since all of them may be gigabytes.
    """
    folder = PlanFolder(plan.id)
    try:
        preparation = load_json(storage, folder.preparation, Preparation.model_validate_json)
        load_target_clusters(storage, plan)
    except (NotFound, DamagedFile):
        return None
    names = set(storage.names(posixpath.dirname(folder.preparation)))
    gone = [name for name in preparation.files if posixpath.basename(name) not in names]
    for name in gone:
        damaged(name, "it is gone")
    return None if gone else preparation


def require_preparation(storage: Storage, plan: Plan) -> Preparation:
    """Return the preparation. Raises DamagedFile if a file of it is gone or damaged."""
    found = load_preparation(storage, plan)
    if found is None:
        raise damaged(PlanFolder(plan.id).preparation, "it is gone, or what it names is")
    return found


def discard_preparation(storage: Storage, plan: Plan) -> None:
    """Delete the file that says that the plan is prepared, so that the plan is prepared again."""
    storage.delete(PlanFolder(plan.id).preparation)
