"""One raw sample to tensors: the caption, the uid, the image resized and cropped as open_clip does it, and the tokens.

Images leave as uint8 after resize and crop; scaling and normalisation happen on the device (model/clip.py).
"""

import io
import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from coreset import uids
from coreset.members import metadata_of
from coreset.schemas.part import OddityKind, SampleStatus, UidSource
from coreset.spec.pool import CaptionField, Captions
from coreset_workers.data.captions import Caption, captions_of, is_text
from coreset_workers.data.oddities import Oddities
from coreset_workers.data.tar import RawSample
from coreset_workers.data.thumbnail import thumbnail

MAX_PIXELS = 89_478_485
"""Pillow's own limit against decompression bombs. A larger image is a bad sample."""

MAX_ASPECT_RATIO = 300
"""Of the longer to the shorter side. A longer strip, resized to the model's size, would not fit into memory."""

MAX_UID_EXAMPLE = 80
"""Characters of an unusable uid that are shown."""

Image.init()
FORMATS = [kind for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF") if kind in Image.OPEN]
"""Image formats that are decoded, whatever the member is called. Pillow knows more, some of which start programs."""

ImageTransform = Callable[[Image.Image], npt.NDArray[np.uint8]]
Tokenizer = Callable[[str], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class ViewFunctions:
    """One model's input functions: image -> (3, H, W) uint8, caption -> (L,) int64."""

    image: ImageTransform
    tokens: Tokenizer


@dataclass(frozen=True)
class Sample:
    """A sample's identity, caption and status, and for each view its image and tokens if the status is ok.

    Attributes:
        metadata: text, number or truth value, as text, by field of the json member.
        size: (width, height) of the image as it is stored, in pixels; None if it was not opened.
        thumbnail: a JPEG, if it was asked for and the status is ok.
        unusable_uid: the uid of the json member as it stands there, if it is not a 128-bit number.
        caption_index: position among the captions of the image, from 0.
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
    unusable_uid: str | None = None
    caption_index: int = 0


def decode(
    raw: RawSample,
    caption_field: CaptionField,
    views: dict[str, ViewFunctions],
    kept: Sequence[str] = (),
    thumbnails: bool = False,
) -> Sample:
    """Return the decoded sample with its first caption. Arguments as for decode_pairs."""
    return decode_pairs(raw, caption_field, views, kept, thumbnails)[0]


def decode_pairs(
    raw: RawSample,
    caption_field: CaptionField,
    views: dict[str, ViewFunctions],
    kept: Sequence[str] = (),
    thumbnails: bool = False,
    captions: Captions | None = None,
) -> list[Sample]:
    """Return the decoded sample, or one for each of its captions. A fault becomes the status, never an exception.

    Args:
        caption_field: take the caption from this field of the json member instead of the txt member.
        views: by name.
        kept: fields of the json member to keep.
        thumbnails: whether to make a thumbnail.
        captions: `best` and `all` take every caption. By `best` the pairs of an image share its uid; by `all` further
            captions have uids of their own, by content.
    """
    metadata = metadata_of(raw.members)
    found = captions_of(raw, metadata, caption_field, captions)
    uid, source, unusable = _identity(raw, metadata, found[0])
    fields = _fields(metadata or {}, kept)
    bare = [
        Sample(uid, source, raw.key, raw.row, caption.problem or SampleStatus.OK, caption.text, fields, None, {}, {})
        for caption in found
    ]
    bare = [replace(sample, caption_index=index) for index, sample in enumerate(bare)]
    bare[0] = replace(bare[0], unusable_uid=unusable)
    data = raw.image()
    if data is None:
        return [replace(bare[0], status=SampleStatus.NO_IMAGE)]
    if captions == "all":
        bare[1:] = [
            replace(sample, uid=uids.of_content(data, caption.stored), uid_source=UidSource.CONTENT)
            for sample, caption in zip(bare[1:], found[1:], strict=True)
        ]
    if all(caption.problem for caption in found):
        return bare
    image, size = _image(data)
    if isinstance(image, SampleStatus):
        return [replace(bare[0], status=image, size=size)]
    images = {name: view.image(image) for name, view in views.items()}
    small = thumbnail(image) if thumbnails else None
    return [_complete(sample, size, images, views, small) for sample in bare]


def _complete(
    sample: Sample,
    size: tuple[int, int] | None,
    images: dict[str, npt.NDArray[np.uint8]],
    views: dict[str, ViewFunctions],
    small: bytes | None,
) -> Sample:
    """Return a sample whose image was decoded with its tensors, if its caption is good."""
    if sample.status is not SampleStatus.OK:
        return sample
    assert sample.caption is not None
    tokens = {name: view.tokens(sample.caption) for name, view in views.items()}
    return replace(sample, size=size, images=images, tokens=tokens, thumbnail=small)


def uid_of(raw: RawSample, caption_field: CaptionField) -> str:
    """Return the sample's uid, without decoding its image."""
    metadata = metadata_of(raw.members)
    return _identity(raw, metadata, captions_of(raw, metadata, caption_field, None)[0])[0]


def note_unusable_uids(oddities: Oddities, shard: str, samples: Iterable[Sample]) -> None:
    """Count the samples whose json member has a uid that is not a 128-bit number."""
    for sample in samples:
        if sample.unusable_uid is not None:
            oddities.add(OddityKind.UNUSABLE_UID, f"{sample.unusable_uid} of {shard}: {sample.key}")


def _identity(raw: RawSample, metadata: dict[str, Any] | None, caption: Caption) -> tuple[str, UidSource, str | None]:
    """Return the uid, its source, and the json member's own uid if that one cannot be used."""
    given = (metadata or {}).get("uid")
    if (uid := uids.normalise(given)) is not None:
        return uid, UidSource.JSON, None
    unusable = None if given is None else ascii(given)[:MAX_UID_EXAMPLE]
    return uids.of_content(raw.image() or b"", caption.stored), UidSource.CONTENT, unusable


def _fields(metadata: dict[str, Any], kept: Sequence[str]) -> dict[str, str]:
    """Return the fields that are text, numbers or truth values, as text, in json's spelling."""
    found = {name: metadata[name] for name in kept if isinstance(metadata.get(name), str | int | float)}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}
    return {name: text for name, text in texts.items() if is_text(text)}


def _image(data: bytes) -> tuple[Image.Image | SampleStatus, tuple[int, int] | None]:
    """Return the image in RGB, or the status of one that cannot be used, and its size, read before any decoding."""
    size = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd EXIF and palettes; the decoded image is what counts
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            size = image.size
            if size[0] * size[1] > MAX_PIXELS or max(size) > MAX_ASPECT_RATIO * min(size):
                return SampleStatus.IMAGE_TOO_LARGE, size
            return image.convert("RGB"), size
        except Image.DecompressionBombError:
            return SampleStatus.IMAGE_TOO_LARGE, size
        except Exception:  # Pillow's readers promise no kind: RuntimeError has been seen
            return SampleStatus.BAD_IMAGE, size
