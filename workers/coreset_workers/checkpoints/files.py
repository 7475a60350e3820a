"""Reading checkpoint files: never a pickle, always a clear word."""

import hashlib
import pickle
import warnings
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import safetensors.torch
import torch
from torch import Tensor

from coreset.errors import CheckpointUnusable, CoresetError
from coreset_workers.data.opening import open_file

PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before the names."""


@dataclass(frozen=True)
class LoadedCheckpoint:
    """What a checkpoint file holds.

    Attributes:
        state_dict: parameters and buffers by name, prefixes stripped.
        optimizer: the optimiser's state_dict, if the file has one.
        epoch, global_step: as the file says, if it does.
    """

    uri: str
    state_dict: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    epoch: int | None
    global_step: int | None


def load(uri: str) -> LoadedCheckpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        CheckpointUnusable: not there, not a checkpoint, cut off, or one that wants to run code.
    """
    return _loaded(uri, _content(uri, "cpu"))


def look(uri: str) -> LoadedCheckpoint:
    """Return what a checkpoint holds without its numbers: all tensors are on the meta device but the optimiser's steps.

    Of a file that torch.save has written since 2020 only the names, shapes and steps are read. Raises as load does.
    """
    return _loaded(uri, _content(uri, "meta"))


def _loaded(uri: str, content: dict[str, Any]) -> LoadedCheckpoint:
    state_dict = content.get("state_dict", content)
    if not isinstance(state_dict, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state_dict.items()
    ):
        keys = ", ".join(map(str, list(content)[:5]))
        raise CheckpointUnusable(
            f"{uri} holds no state_dict of tensors (its keys: {keys}). Give a checkpoint that open_clip wrote.", uri=uri
        )
    optimizer = content.get("optimizer")
    return LoadedCheckpoint(
        uri,
        {_strip(name): value for name, value in state_dict.items()},
        optimizer if isinstance(optimizer, dict) else None,
        _integer(content.get("epoch")),
        _integer(content.get("global_step")),
    )


def _content(uri: str, device: str) -> dict[str, Any]:
    try:
        with open_file(uri) as file:
            zipped = _is_zip_of_its_size(file, uri)
            if uri.endswith(".safetensors"):
                return dict(safetensors.torch.load(file.read()))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of a pickle's protocol before it refuses the pickle
                where = device if zipped else "cpu"
                content = torch.load(cast(Any, file), map_location=where, weights_only=True)
            if where == "meta":
                _read_steps(file, content)
    except CoresetError:
        raise
    except FileNotFoundError as error:
        raise CheckpointUnusable(f"{uri} is not there", uri=uri) from error
    except IsADirectoryError as error:
        raise CheckpointUnusable(
            f"{uri} is a directory, as sharded (FSDP) training writes it. Convert it into one file first, "
            "for example with torch.distributed.checkpoint.format_utils.",
            uri=uri,
        ) from error
    except pickle.UnpicklingError as error:
        raise CheckpointUnusable(
            f"{uri} is not a file of plain tensors: it is no checkpoint, or it holds objects that would run code "
            "when they are loaded, which is refused. Save its state_dict again with torch.save.",
            uri=uri,
        ) from error
    except Exception as error:  # of a file that is cut off or noise, the readers raise all kinds, such as struct.error
        raise CheckpointUnusable(
            f"{uri} cannot be read as a checkpoint; it may be cut off ({type(error).__name__})", uri=uri
        ) from error
    if not isinstance(content, dict):
        raise CheckpointUnusable(f"{uri} holds a {type(content).__name__}, not a checkpoint", uri=uri)
    return cast(dict[str, Any], content)


def _is_zip_of_its_size(file: BinaryIO, uri: str) -> bool:
    """Return whether it is a zip. Raises CheckpointUnusable if it would unpack to more: torch.save packs nothing."""
    if not zipfile.is_zipfile(file):
        file.seek(0)
        return False
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    size = file.seek(0, 2)
    file.seek(0)
    if unpacked > size:
        raise CheckpointUnusable(f"{uri} is compressed: {size:,} bytes would unpack to {unpacked:,}", uri=uri)
    return True


def _read_steps(file: BinaryIO, content: object) -> None:
    """Put numbers in the place of the optimiser's steps, tensors on the meta device that know where their bytes lie."""
    optimizer = content.get("optimizer") if isinstance(content, dict) else None
    states = optimizer.get("state") if isinstance(optimizer, dict) else None
    for state in states.values() if isinstance(states, dict) else ():
        step = state.get("step") if isinstance(state, dict) else None
        if isinstance(step, Tensor) and step.is_meta and step.numel() == 1:
            storage: Any = step.untyped_storage()
            file.seek(storage._checkpoint_offset + step.storage_offset() * step.element_size())
            state["step"] = torch.frombuffer(bytearray(file.read(step.element_size())), dtype=step.dtype)[0]


def _strip(name: str) -> str:
    while name.startswith(PREFIXES):  # one may stand before the other, in either order
        name = name.split(".", 1)[1]
    return name


def _integer(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) else None


def sha256(uri: str) -> tuple[int, str]:
    """Return the file's size in bytes and its sha256."""
    digest, size = hashlib.sha256(), 0
    with open_file(uri) as file:
        while data := file.read(1 << 22):
            digest.update(data)
            size += len(data)
    return size, digest.hexdigest()


def adam_step(optimizer: dict[str, Any] | None) -> int | None:
    """Return the largest step count in AdamW's state, or None."""
    states = (optimizer or {}).get("state") or {}
    steps = [int(state["step"]) for state in states.values() if isinstance(state, dict) and "step" in state]
    return max(steps, default=None)


def optimizer_lr(optimizer: dict[str, Any] | None) -> float | None:
    """Return the largest lr of the parameter groups, the base one under layer decay, or None."""
    groups = (optimizer or {}).get("param_groups") or []
    rates = [float(group["lr"]) for group in groups if "lr" in group]
    return max(rates, default=None)


def adam_preconditioner(
    optimizer: dict[str, Any] | None, shapes: dict[str, torch.Size], counted: Collection[str]
) -> dict[str, Tensor] | None:
    """Return P = 1 / (sqrt(v_hat) + eps) of the counted parameters by name, or None where the state does not tell it.

    Where v is 0 no sample has ever had a gradient, and P is 0: 1 / eps there, for the embeddings of words that only V
    has, let the trace of V's gradient explode (docs/method.md, section 8).

    The state is keyed by position in the parameter groups. Two orders are known: open_clip up to 3.x puts the
    parameters without weight decay first; newer ones note `group_name`, `no_wd` or `wd`, in order of appearance.

    Args:
        shapes: of the trained parameters by name, in the model's order.
        counted: the names of those that P is wanted for. The others need no state: they may never have had a gradient.
    """
    groups, states = (optimizer or {}).get("param_groups"), (optimizer or {}).get("state")
    if not groups or not states:
        return None
    names = _names_in_order(groups, list(shapes), shapes)
    order = [index for group in groups for index in group["params"]]
    if names is None or len(names) != len(order):
        return None
    betas = {
        index: (group["betas"][1], group["eps"]) for group in groups if "betas" in group for index in group["params"]
    }
    found: dict[str, Tensor] = {}
    for name, index in zip(names, order, strict=True):
        second = (states.get(index) or {}).get("exp_avg_sq")
        if second is not None and second.shape != shapes[name]:
            return None
        if name not in counted:
            continue
        if second is None or index not in betas or not int(states[index]["step"]):
            return None
        beta, eps = betas[index]
        steps = 1 / ((second.float() / (1 - beta ** int(states[index]["step"]))).sqrt() + eps)
        found[name] = torch.where(second == 0, 0, steps)
    return found if all(value.isfinite().all() for value in found.values()) else None


def _names_in_order(groups: list[dict[str, Any]], names: list[str], shapes: dict[str, torch.Size]) -> list[str] | None:
    if all("group_name" in group for group in groups):
        plain = {n for n in names if len(shapes[n]) < 2 or n.endswith(("logit_scale", "positional_embedding"))}
        by_group = {"no_wd": [n for n in names if n in plain], "wd": [n for n in names if n not in plain]}
        return [n for group in groups for n in by_group.get(group["group_name"], [])]
    if len(groups) != 2:
        return None
    plain = [n for n in names if len(shapes[n]) < 2 or any(word in n for word in ("bn", "ln", "bias", "logit_scale"))]
    return plain + [n for n in names if n not in set(plain)]
