"""One raw sample to tensors: the caption, the uid, the image resized and cropped as open_clip does it, and the tokens.

Images leave as uint8 after resize and crop; scaling and normalisation happen on the device (model/clip.py).
"""

import io
import json
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from coreset import uids
from coreset.schemas.part import SampleStatus, UidSource
from coreset_workers.data.tar import RawSample
from coreset_workers.data.thumbnail import thumbnail

LARGEST_IMAGE = 89_478_485
"""Pixels; Pillow's own limit against decompression bombs. A larger image is a bad sample."""

LONGEST_STRIP = 300
"""Ratio of the sides. A longer strip, its short side brought to the model's size, would not fit into memory."""

LARGEST_JSON = 16 * 2**20
"""Bytes; a json member of 256 MB can be 10 GB of Python's objects."""

LONGEST_CAPTION = 20_000
"""Characters."""

_LONG_WORD = re.compile(r"\w{1001}")
"""A tokenizer takes time in the square of a word's length: 0.7 s for 2,000 letters, 40 s for 20,000."""

Image.init()
FORMATS = [kind for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF") if kind in Image.OPEN]
"""Of images, whatever the member is called. Pillow knows more, some of which start other programs."""

ImageTransform = Callable[[Image.Image], npt.NDArray[np.uint8]]
Tokenizer = Callable[[str], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class ViewFunctions:
    """What turns a sample into one model's inputs: image -> (3, H, W) uint8, caption -> (L,) int64."""

    image: ImageTransform
    tokens: Tokenizer


@dataclass(frozen=True)
class Sample:
    """A sample's identity, caption and status, and for each view its image and tokens if the status is ok.

    Attributes:
        metadata: by field of the json member, its text, number or truth value as text.
        size: (width, height) of the image as it is stored, in pixels; None if it was not looked at.
        thumbnail: a JPEG, if it is wanted and the status is ok.
    """

    uid: str
    uid_source: UidSource
    key: str
    row: int
    status: SampleStatus
    caption: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    images: dict[str, npt.NDArray[np.uint8]] = field(default_factory=dict)
    tokens: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    thumbnail: bytes | None = None


def decode(
    raw: RawSample,
    caption_field: str | None,
    views: dict[str, ViewFunctions],
    kept: Sequence[str] = (),
    thumbnails: bool = False,
) -> Sample:
    """Return the decoded sample; what is wrong with it is its status, never an exception.

    Args:
        caption_field: take the caption from this field of the json member instead of the txt member.
        views: by name.
        kept: fields of the json member to keep.
        thumbnails: whether to make one.
    """
    metadata = _metadata(raw)
    identity = (*_uid(raw, metadata), raw.key, raw.row)
    caption, problem = _caption(raw, metadata, caption_field)
    fields = _fields(metadata or {}, kept)
    data = raw.image()
    if data is None:
        return Sample(*identity, SampleStatus.NO_IMAGE, caption, fields)
    if problem is not None:
        return Sample(*identity, problem, caption, fields)
    image, size = _image(data)
    if isinstance(image, SampleStatus):
        return Sample(*identity, image, caption, fields, size)
    assert caption is not None
    images = {name: view.image(image) for name, view in views.items()}
    tokens = {name: view.tokens(caption) for name, view in views.items()}
    small = thumbnail(image) if thumbnails else None
    return Sample(*identity, SampleStatus.OK, caption, fields, size, images, tokens, small)


def uid_of(raw: RawSample) -> str:
    """Return the sample's uid, without decoding it."""
    return _uid(raw, _metadata(raw))[0]


def _uid(raw: RawSample, metadata: dict[str, Any] | None) -> tuple[str, UidSource]:
    uid = uids.normalise(metadata.get("uid")) if metadata else None
    return (uid, UidSource.JSON) if uid else (uids.derive(raw.shard, raw.key), UidSource.DERIVED)


def _metadata(raw: RawSample) -> dict[str, Any] | None:
    """Return the json member's object, {} if there is no such member, None if it cannot be read."""
    data = raw.members.get("json")
    if data is None:
        return {}
    if len(data) > LARGEST_JSON:
        return None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _fields(metadata: dict[str, Any], kept: Sequence[str]) -> dict[str, str]:
    """Return the fields that are text, numbers or truth values, as text, in json's spelling."""
    found = {name: metadata[name] for name in kept if isinstance(metadata.get(name), str | int | float)}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}
    return {name: text for name, text in texts.items() if _is_text(text)}


def _is_text(value: str) -> bool:
    """Tell whether a file can hold it: json can write half a surrogate pair, which no file and no tokenizer takes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _caption(
    raw: RawSample, metadata: dict[str, Any] | None, caption_field: str | None
) -> tuple[str | None, SampleStatus | None]:
    """Return the stripped caption, or None and what is wrong with it."""
    if caption_field is not None:
        if metadata is None:
            return None, SampleStatus.BAD_CAPTION
        value = metadata.get(caption_field)
        if not isinstance(value, str):
            return None, SampleStatus.NO_CAPTION
    elif "txt" in raw.members:
        try:
            value = raw.members["txt"].decode()
        except UnicodeDecodeError:
            return None, SampleStatus.BAD_CAPTION
    else:
        return None, SampleStatus.NO_CAPTION
    if len(value) > LONGEST_CAPTION or _LONG_WORD.search(value) or not _is_text(value):
        return None, SampleStatus.BAD_CAPTION
    caption = value.strip()
    return (caption, None) if caption else (None, SampleStatus.EMPTY_CAPTION)


def _image(data: bytes) -> tuple[Image.Image | SampleStatus, tuple[int, int] | None]:
    """Return the image in RGB, or what is wrong with it, and its size, looked at before anything is decoded."""
    size = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd EXIF and palettes; the decoded image is what counts
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            size = image.size
            if size[0] * size[1] > LARGEST_IMAGE or max(size) > LONGEST_STRIP * min(size):
                return SampleStatus.IMAGE_TOO_LARGE, size
            return image.convert("RGB"), size
        except Image.DecompressionBombError:
            return SampleStatus.IMAGE_TOO_LARGE, size
        except Exception:  # Pillow's readers promise no kind: RuntimeError has been seen
            return SampleStatus.BAD_IMAGE, size
