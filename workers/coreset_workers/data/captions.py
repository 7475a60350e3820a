"""The captions of a raw sample: one, or several of the same image."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

from coreset.schemas.part import SampleStatus
from coreset.spec.pool import CaptionField, Captions
from coreset_workers.data.tar import CAPTION_MEMBER, MAX_CAPTIONS, RawSample

MAX_CAPTION_CHARACTERS = 20_000

_LONG_WORD = re.compile(r"\w{1001}")
"""A tokenizer's time grows with the square of a word's length: 0.7 s for 2,000 letters, 40 s for 20,000."""

_INVISIBLE = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
"""Unicode categories without ink: controls, zero-width characters and byte-order marks, separators, spaces."""


class Caption(NamedTuple):
    """A caption's bytes as they are stored, and its stripped text or the status of a sample without a usable one."""

    stored: bytes
    text: str | None = None
    problem: SampleStatus | None = None


def captions_of(
    raw: RawSample, metadata: dict[str, Any] | None, field: CaptionField, mode: Captions | None
) -> list[Caption]:
    """Return the sample's captions in their order, at least one: the first alone unless the mode is `best` or `all`.

    Args:
        metadata: the json member's object; None if it cannot be read.
        field: the json field, or fields, of the captions; None for the txt member and `1.txt`, `2.txt` and so on.
        mode: None is the mode of specs without `captions`, for which a list in a json field is no caption.
    """
    if raw.captions is None and mode is None and not isinstance(field, list):
        return [_single(raw, metadata, field)]
    if raw.captions is not None:
        stored = raw.captions
    elif field is None:
        stored = [raw.members[name] for name in _caption_members(raw)]
    elif metadata is None:
        return [Caption(b"", None, SampleStatus.BAD_CAPTION)]
    else:
        stored = in_fields(metadata, [field] if isinstance(field, str) else field)
    if not stored:
        return [Caption(b"", None, SampleStatus.NO_CAPTION)]
    several = mode in ("best", "all")
    return [_judged(caption) for caption in (stored[:MAX_CAPTIONS] if several else stored[:1])]


def in_fields(values: dict[str, Any], fields: Sequence[str]) -> list[bytes]:
    """Return the texts in some fields, and those in lists of texts there."""
    found: list[str] = []
    for name in fields:
        value = values.get(name)
        found += [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
    return [text.encode(errors="surrogatepass") for text in found]


def is_text(value: str) -> bool:
    """Return whether the text can be encoded: json can hold half a surrogate pair, which files refuse."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _caption_members(raw: RawSample) -> list[str]:
    """Return the members with captions: `txt`, then `0.txt`, `1.txt` and so on by their numbers."""
    names = [name for name in raw.members if name == "txt" or CAPTION_MEMBER.fullmatch(name)]
    return sorted(names, key=lambda name: -1 if name == "txt" else int(name.partition(".")[0]))


def _single(raw: RawSample, metadata: dict[str, Any] | None, field: str | None) -> Caption:
    if field is None:
        return _judged(raw.members["txt"]) if "txt" in raw.members else Caption(b"", None, SampleStatus.NO_CAPTION)
    value = (metadata or {}).get(field)
    if not isinstance(value, str):
        return Caption(b"", None, SampleStatus.BAD_CAPTION if metadata is None else SampleStatus.NO_CAPTION)
    return _judged(value.encode(errors="surrogatepass"))


def _judged(stored: bytes) -> Caption:
    try:
        text = stored.decode()
    except UnicodeDecodeError:
        return Caption(stored, None, SampleStatus.BAD_CAPTION)
    if len(text) > MAX_CAPTION_CHARACTERS or _LONG_WORD.search(text):
        return Caption(stored, None, SampleStatus.BAD_CAPTION)
    if all(unicodedata.category(character) in _INVISIBLE for character in text):
        return Caption(stored, None, SampleStatus.EMPTY_CAPTION)
    return Caption(stored, text.strip())
