"""Job files: reading one, and making its relative paths absolute, since workers run in another folder.

A relative path is resolved against the folder of the job file, or the current folder if the spec comes from stdin.
URIs with a scheme (s3://, gs://, hf://, https://, pipe:) are left unchanged.
"""

import json
import posixpath
import re
import sys
from pathlib import Path
from typing import Any, cast

from coreset.errors import InvalidInput, InvalidSpec
from coreset.spec.json_text import parse_json

BYTE_ORDER_MARK = "\ufeff"
"""First character of a UTF-8 file as Windows editors write it; the API accepts it too."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def read_spec(job_file: str) -> Any:
    """Return a job file, or stdin for `-`, as parsed JSON with absolute paths.

    Raises:
        InvalidInput: the file cannot be read.
        InvalidSpec: it is not JSON.
    """
    if job_file == "-":
        text, folder = sys.stdin.read().removeprefix(BYTE_ORDER_MARK), Path.cwd()
    else:
        path = Path(job_file)
        try:
            text, folder = path.read_text(encoding="utf-8-sig"), path.parent
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise InvalidInput(f"{job_file} cannot be read: {reason}") from error
    try:
        return absolute(parse_json(text), folder)
    except InvalidSpec as error:
        raise InvalidSpec(f"{job_file}: {error.detail}", **error.data) from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InvalidSpec(f"{job_file} is not JSON: {error.msg} at {place}") from error


def absolute(spec: Any, folder: Path) -> Any:
    """Return the spec, as parsed JSON, with absolute local paths. Values of another type are left unchanged."""
    if not isinstance(spec, dict):
        return spec
    spec = cast(dict[str, Any], spec)
    return {name: _RULES[name](value, folder) if name in _RULES else value for name, value in spec.items()}


def _pool(given: Any, folder: Path) -> Any:
    if not isinstance(given, dict) or "shards" not in given:
        return cast(Any, given)
    pool = cast(dict[str, Any], given)
    shards = pool["shards"]
    if isinstance(shards, list):
        return {**pool, "shards": [_uri(shard, folder) for shard in cast(list[Any], shards)]}
    return {**pool, "shards": _uri(shards, folder)}


def _checkpoints(checkpoints: Any, folder: Path) -> Any:
    if not isinstance(checkpoints, dict):
        return checkpoints
    changed = dict(cast(dict[str, Any], checkpoints))
    if "run" in changed:
        changed["run"] = _uri(changed["run"], folder)
    if isinstance(changed.get("files"), list):
        changed["files"] = [_file(file, folder) for file in changed["files"]]
    return changed


def _file(file: Any, folder: Path) -> Any:
    if not isinstance(file, dict) or "uri" not in file:
        return _uri(file, folder)
    file = cast(dict[str, Any], file)
    return {**file, "uri": _uri(file["uri"], folder)}


def _target(target: Any, folder: Path) -> Any:
    if not isinstance(target, dict) or "pool" not in target:
        return cast(Any, target)
    target = cast(dict[str, Any], target)
    return {**target, "pool": _pool(target["pool"], folder)}


def _evaluate(evaluate: Any, folder: Path) -> Any:
    if not isinstance(evaluate, dict) or "test" not in evaluate:
        return cast(Any, evaluate)
    evaluate = cast(dict[str, Any], evaluate)
    return {**evaluate, "test": _pool(evaluate["test"], folder)}


def _clip_model(model: Any, folder: Path) -> Any:
    """Resolve `pretrained` if there is such a file; otherwise it is a tag of open_clip's."""
    if not isinstance(model, dict):
        return model
    model = cast(dict[str, Any], model)
    pretrained = model.get("pretrained")
    if not isinstance(pretrained, str) or not (folder / pretrained).exists():
        return model
    return {**model, "pretrained": _uri(pretrained, folder)}


def _uri(uri: Any, folder: Path) -> Any:
    if not isinstance(uri, str):
        return uri
    return "::".join(_one(piece.strip(), folder) for piece in uri.split("::"))


def _one(uri: str, folder: Path) -> str:
    if not uri or _SCHEME.match(uri):
        return uri
    return posixpath.normpath(posixpath.join(str(folder.resolve()), str(Path(uri).expanduser())))


_RULES = {
    "pool": _pool,
    "checkpoints": _checkpoints,
    "target": _target,
    "clip_model": _clip_model,
    "evaluate": _evaluate,
}
