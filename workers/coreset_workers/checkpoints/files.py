"""Checkpoint files of plain tensors: read without running code; each refusal names the file and the way out."""

import hashlib
import pickle
import warnings
import zipfile
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import safetensors.torch
import torch
from torch import Tensor

from coreset.errors import CheckpointUnusable, CoresetError
from coreset_workers.data.opening import open_file

PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that DistributedDataParallel and torch.compile put before the names of parameters."""


@dataclass(frozen=True)
class LoadedCheckpoint:
    """Content of a checkpoint file.

    Attributes:
        state_dict: parameters and buffers by name, prefixes stripped.
        optimizer: the optimizer's state_dict, if the file has one.
        epoch, global_step: as recorded in the file; None if they are not.
    """

    uri: str
    state_dict: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    epoch: int | None
    global_step: int | None


def load(uri: str) -> LoadedCheckpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        CheckpointUnusable: the file is missing, is no checkpoint, is cut off, or would run code.
    """
    return _loaded(uri, _content(uri, "cpu"))


def inspect(uri: str) -> LoadedCheckpoint:
    """Read a checkpoint's names, shapes and steps; all tensors but the optimizer's steps are on the meta device.

    Of a file that torch.save has written since 2020 nothing else is read. Raises as load does.
    """
    return _loaded(uri, _content(uri, "meta"))


def _loaded(uri: str, content: dict[str, Any]) -> LoadedCheckpoint:
    state_dict = content.get("state_dict", content)
    if not isinstance(state_dict, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state_dict.items()
    ):
        keys = ", ".join(map(str, list(content)[:5]))
        raise CheckpointUnusable(
            f"{uri} contains no state_dict of tensors (its keys: {keys}). Give a checkpoint that open_clip wrote.",
            uri=uri,
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
        raise CheckpointUnusable(f"{uri} does not exist", uri=uri) from error
    except IsADirectoryError as error:
        raise CheckpointUnusable(
            f"{uri} is a directory, as sharded (FSDP) training writes it. Convert it into one file first, "
            "for example with torch.distributed.checkpoint.format_utils.",
            uri=uri,
        ) from error
    except pickle.UnpicklingError as error:
        raise CheckpointUnusable(
            f"{uri} is not a file of plain tensors: it is no checkpoint, or it contains objects that would run code "
            "when they are loaded, which is refused. Save its state_dict again with torch.save.",
            uri=uri,
        ) from error
    except Exception as error:  # of a file that is cut off or noise, the readers raise all kinds, such as struct.error
        raise CheckpointUnusable(
            f"{uri} cannot be read as a checkpoint; it may be cut off ({type(error).__name__})", uri=uri
        ) from error
    if not isinstance(content, dict):
        raise CheckpointUnusable(f"{uri} contains a {type(content).__name__}, not a checkpoint", uri=uri)
    return cast(dict[str, Any], content)


def _is_zip_of_its_size(file: BinaryIO, uri: str) -> bool:
    """Return whether a file is a zip.

    Raises:
        CheckpointUnusable: it is compressed, which torch.save never does; it could unpack to any size.
    """
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
    """Replace the optimizer's steps, which are on the meta device, by their numbers in the file."""
    optimizer = content.get("optimizer") if isinstance(content, dict) else None
    states = optimizer.get("state") if isinstance(optimizer, dict) else None
    for state in states.values() if isinstance(states, dict) else ():
        step = state.get("step") if isinstance(state, dict) else None
        if isinstance(step, Tensor) and step.is_meta and step.numel() == 1:
            storage: Any = step.untyped_storage()
            file.seek(storage._checkpoint_offset + step.storage_offset() * step.element_size())
            state["step"] = torch.frombuffer(bytearray(file.read(step.element_size())), dtype=step.dtype)[0]


def _strip(name: str) -> str:
    while name.startswith(PREFIXES):  # both may occur, in either order
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
