"""Columns of a file of rows, by their use: the image, the captions and the key of a sample."""

from collections.abc import Mapping, Sequence
from typing import Literal

from coreset.errors import ShardUnreadable
from coreset.schemas.plan import PlannedRows

Kind = Literal["text", "texts", "bytes", "image", "other"]
"""Text, a list of texts, bytes, an image of Hugging Face datasets (bytes and path), or anything else."""

IMAGES = ("jpg", "png", "jpeg", "webp", "image", "img", "image_bytes", "bytes")
PATHS = ("file_name", "filepath", "image_path", "path", "filename", "file_path", "image", "img")
CAPTIONS = ("txt", "caption", "text", "title", "captions")
KEYS = ("key", "__key__")
"""Usual names in lower case: those of img2dataset, Hugging Face datasets, LAION and open_clip."""

MAX_COLUMNS = 2000
MAX_NAMED = 20


def resolve_columns(
    uri: str, columns: Mapping[str, Kind], image_field: str | None, caption_field: str | Sequence[str] | None
) -> PlannedRows:
    """Return the columns that make a sample.

    Raises:
        ShardUnreadable: a column that the spec names does not exist or has another kind, or none has a usual name.
    """
    if len(columns) > MAX_COLUMNS:
        raise ShardUnreadable(f"{uri} has {len(columns):,} columns; expected at most {MAX_COLUMNS:,}", uri=uri)
    image = _image(uri, columns, image_field)
    wanted = [caption_field] if isinstance(caption_field, str) else caption_field
    captions = [_named(uri, columns, name, ("text", "texts"), "caption_field") for name in wanted or ()]
    usual = None if captions else _usual(columns, CAPTIONS, ("text", "texts"))
    if usual is None and not captions:
        raise _missing(uri, columns, "captions", CAPTIONS, "caption_field")
    key = _usual(columns, KEYS, ("text", "other"))
    return PlannedRows(image=image, captions=captions or [str(usual)], key=key)


def _image(uri: str, columns: Mapping[str, Kind], named: str | None) -> str:
    if named is not None:
        return _named(uri, columns, named, ("bytes", "image", "text"), "image_field")
    binary = [name for name, kind in columns.items() if kind in ("bytes", "image")]
    found = _usual(columns, IMAGES, ("bytes", "image")) or (binary[0] if len(binary) == 1 else None)
    found = found or _usual(columns, PATHS, ("text",))
    if found is None:
        raise _missing(uri, columns, "images or their paths", (*IMAGES, *PATHS), "image_field")
    return found


def _usual(columns: Mapping[str, Kind], names: Sequence[str], kinds: Sequence[Kind]) -> str | None:
    folded = {name.casefold(): name for name, kind in reversed(list(columns.items())) if kind in kinds}
    return next((folded[name] for name in names if name in folded), None)


def _named(uri: str, columns: Mapping[str, Kind], name: str, kinds: Sequence[Kind], field: str) -> str:
    if name not in columns:
        raise ShardUnreadable(
            f"{uri} has no column {name}, which `{field}` names; expected one of {_some(columns)}", uri=uri
        )
    if columns[name] not in kinds:
        raise ShardUnreadable(
            f"{uri}: the column {name}, which `{field}` names, has values of another kind; expected "
            f"{' or '.join(kinds)}",
            uri=uri,
        )
    return name


def _missing(uri: str, columns: Mapping[str, Kind], what: str, names: Sequence[str], field: str) -> ShardUnreadable:
    urls = any(name.casefold() == "url" for name in columns) and field == "image_field"
    hint = ". It has URLs but no images: download them with img2dataset first" if urls else ""
    return ShardUnreadable(
        f"{uri} has no column with {what} of a usual name ({', '.join(dict.fromkeys(names))}); name it in `{field}`. "
        f"It has {_some(columns)}{hint}",
        uri=uri,
    )


def _some(names: Mapping[str, Kind]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(list(names)[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
