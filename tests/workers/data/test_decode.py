"""Decoding: every sample gets an identity and a status, and no bytes whatever make it raise."""

import io
import json
import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from coreset import uids
from coreset.schemas.part import SampleStatus, UidSource
from coreset_workers.data.decode import MAX_PIXELS, Sample, ViewFunctions, decode
from coreset_workers.data.tar import RawSample

UID = "0123456789abcdef0123456789abcdef"


def pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    assert image.mode == "RGB"
    return np.asarray(image).transpose(2, 0, 1)


def letters(caption: str) -> npt.NDArray[np.int64]:
    return np.array([len(caption), *caption.encode()])


VIEWS = {"run": ViewFunctions(pixels, letters)}


def encoded(image: Image.Image, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


JPEG = encoded(Image.new("RGB", (12, 8), (200, 30, 40)))


def raw(shard: str = "pool/000000.tar", key: str = "k", **members: bytes) -> RawSample:
    return RawSample(shard, key, 3, members, set(members))


def decoded(caption_field: str | None = None, **members: bytes) -> Sample:
    return decode(raw(**members), caption_field, VIEWS)


def test_a_good_sample_has_caption_image_and_tokens_of_every_view() -> None:
    views = {**VIEWS, "clip": ViewFunctions(lambda image: pixels(image)[:, :2, :2], lambda caption: np.zeros(4, int))}
    sample = decode(raw(jpg=JPEG, txt=b"  a red  field\n"), None, views)
    assert (sample.status, sample.caption, sample.key, sample.row) == (SampleStatus.OK, "a red  field", "k", 3)
    assert {name: image.shape for name, image in sample.images.items()} == {"run": (3, 8, 12), "clip": (3, 2, 2)}
    assert sample.images["run"].dtype == np.uint8
    assert np.abs(sample.images["run"][:, 4, 6].astype(int) - (200, 30, 40)).max() < 8
    assert bytes(sample.tokens["run"].tolist()[1:]) == b"a red  field"


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({"jpg": JPEG, "txt": b"red"}, SampleStatus.OK),
        ({"txt": b"red"}, SampleStatus.NO_IMAGE),
        ({}, SampleStatus.NO_IMAGE),
        ({"jpg": JPEG}, SampleStatus.NO_CAPTION),
        ({"jpg": JPEG, "txt": b""}, SampleStatus.EMPTY_CAPTION),
        ({"jpg": JPEG, "txt": " \t\n\u00a0\u2003".encode()}, SampleStatus.EMPTY_CAPTION),
        ({"jpg": JPEG, "txt": "café".encode("latin-1")}, SampleStatus.BAD_CAPTION),
        ({"jpg": b"no image", "txt": b"red"}, SampleStatus.BAD_IMAGE),
        ({"jpg": b"", "txt": b"red"}, SampleStatus.BAD_IMAGE),
        ({"jpg": JPEG[: len(JPEG) // 2], "txt": b"red"}, SampleStatus.BAD_IMAGE),
    ],
)
def test_what_is_wrong_with_a_sample_is_its_status(members: dict[str, bytes], status: SampleStatus) -> None:
    sample = decoded(**members)
    assert sample.status is status
    assert bool(sample.images) == bool(sample.tokens) == (status is SampleStatus.OK)


@pytest.mark.parametrize(
    ("document", "status", "caption"),
    [
        (b'{"alt": " blue ", "caption": "red"}', SampleStatus.OK, "blue"),
        (b'{"alt": "\\u00e9t\\u00e9"}', SampleStatus.OK, "été"),
        (b'{"caption": "red"}', SampleStatus.NO_CAPTION, None),
        (b'{"alt": null}', SampleStatus.NO_CAPTION, None),
        (b'{"alt": ["red"]}', SampleStatus.NO_CAPTION, None),
        (b'{"alt": "  "}', SampleStatus.EMPTY_CAPTION, None),
        (b'{"alt": "\\ud800"}', SampleStatus.BAD_CAPTION, None),  # half a surrogate pair: no text can hold it
        (b'{"alt": ', SampleStatus.BAD_CAPTION, None),
        (b'["alt"]', SampleStatus.BAD_CAPTION, None),
        (b"\xff\xfe\xfd", SampleStatus.BAD_CAPTION, None),
        (b"[" * 100_000, SampleStatus.BAD_CAPTION, None),
        (b'{"alt": ' + b"1" * 10_000 + b"}", SampleStatus.BAD_CAPTION, None),  # more digits than Python converts
    ],
)
def test_the_caption_comes_from_the_json_field_that_is_asked_for(
    document: bytes, status: SampleStatus, caption: str | None
) -> None:
    sample = decoded("alt", jpg=JPEG, txt=b"not this", json=document)
    assert (sample.status, sample.caption) == (status, caption)


def test_without_a_json_member_there_is_no_caption_field() -> None:
    assert decoded("alt", jpg=JPEG, txt=b"red").status is SampleStatus.NO_CAPTION


def test_a_broken_json_does_not_matter_where_the_caption_is_the_txt() -> None:
    sample = decoded(jpg=JPEG, txt=b"red", json=b"{")
    assert (sample.status, sample.uid_source) == (SampleStatus.OK, UidSource.CONTENT)


@pytest.mark.parametrize(
    ("uid", "found"),
    [(UID, UID), (UID.upper(), UID), ("ff", "ff".zfill(32)), ("0" * 31 + "1", "0" * 31 + "1"), (17, "11".zfill(32))],
)
def test_the_uid_of_the_json_is_taken(uid: str, found: str) -> None:
    sample = decoded(jpg=JPEG, txt=b"red", json=json.dumps({"uid": uid}).encode())
    assert (sample.uid, sample.uid_source) == (found, UidSource.JSON)


@pytest.mark.parametrize("uid", [None, -1, 2**128, 1.5, True, "", "not hex", "f" + UID, [UID]])
def test_without_a_usable_uid_one_is_made_of_the_content(uid: object) -> None:
    sample = decoded(jpg=JPEG, txt=b"red", json=json.dumps({"uid": uid}).encode())
    assert (sample.uid, sample.uid_source) == (uids.of_content(JPEG, b"red"), UidSource.CONTENT)
    assert sample.unusable_uid == (None if uid is None else ascii(uid))


def test_bad_samples_have_their_uid_and_their_caption_too() -> None:
    sample = decoded(txt=b"red", json=json.dumps({"uid": UID}).encode())
    assert (sample.status, sample.uid, sample.caption) == (SampleStatus.NO_IMAGE, UID, "red")


def png(width: int, height: int) -> bytes:
    """A PNG whose header promises a size, followed by next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_500, 20_000, 2**31 - 1])  # above our limit; above Pillow's two limits
def test_a_decompression_bomb_is_too_large(side: int) -> None:
    assert side * side > MAX_PIXELS
    assert decoded(png=png(side, side), txt=b"red").status is SampleStatus.IMAGE_TOO_LARGE


@pytest.mark.parametrize("size", [(1, 10_000), (10_000, 1)])
def test_a_strip_that_would_be_a_bomb_when_it_is_resized_is_too_large(size: tuple[int, int]) -> None:
    assert decoded(png=encoded(Image.new("RGB", size), "PNG"), txt=b"red").status is SampleStatus.IMAGE_TOO_LARGE


def gradient(mode: str) -> Image.Image:
    ramp = Image.fromarray(np.arange(0, 256, dtype=np.uint8).reshape(16, 16))
    return ramp.convert("RGB").quantize(16) if mode == "P" else ramp.convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("CMYK", "JPEG"),
        ("L", "JPEG"),
        ("P", "PNG"),
        ("P", "GIF"),
        ("1", "PNG"),
        ("LA", "PNG"),
        ("RGBA", "PNG"),
        ("RGBA", "WEBP"),
        ("I;16", "PNG"),
        ("I;16", "TIFF"),
        ("F", "TIFF"),
        ("YCbCr", "TIFF"),
    ],
)
def test_images_of_every_mode_become_rgb(mode: str, kind: str) -> None:
    sample = decoded(jpg=encoded(gradient(mode), kind), txt=b"red")
    assert sample.status is SampleStatus.OK
    assert sample.images["run"].shape == (3, 16, 16)


def test_a_palette_image_with_odd_transparency_is_fine_without_a_warning() -> None:
    image = gradient("P")
    image.info["transparency"] = bytes(range(16))
    assert decoded(png=encoded(image, "PNG"), txt=b"red").status is SampleStatus.OK


documents = st.one_of(
    st.binary(max_size=60),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: st.dictionaries(st.sampled_from(["uid", "alt", "x"]), inner) | st.lists(inner, max_size=3),
        max_leaves=5,
    ).map(lambda value: json.dumps(value).encode()),
)


@given(
    st.dictionaries(st.sampled_from(["jpg", "png", "txt"]), st.binary(max_size=60)),
    documents,
    st.sampled_from([None, "alt"]),
)
@settings(deadline=None)
def test_no_bytes_make_it_raise(members: dict[str, bytes], document: bytes, caption_field: str | None) -> None:
    sample = decode(raw(json=document, **members), caption_field, VIEWS)
    assert isinstance(sample.status, SampleStatus)
    assert len(sample.uid) == 32
    assert sample.caption is None or sample.caption.encode().strip()


KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "ICO", "TGA", "PCX", "PPM", "SGI", "DDS", "AVIF")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {kind: encoded(gradient("RGB"), kind) for kind in KINDS}


@given(
    st.sampled_from(KINDS),
    st.lists(st.tuples(st.integers(0, 2**16), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4),
    st.integers(1, 2**16),
)
@settings(max_examples=300, deadline=None)
def test_no_damaged_image_makes_it_raise(
    files: dict[str, bytes], kind: str, changes: list[tuple[int, bytes]], end: int
) -> None:
    content = bytearray(files[kind])
    for position, noise in changes:
        start = position % len(content)
        content[start : start + len(noise)] = noise
    status = decoded(jpg=bytes(content[:end]), txt=b"red").status
    assert status in (SampleStatus.OK, SampleStatus.BAD_IMAGE, SampleStatus.IMAGE_TOO_LARGE)


def test_the_size_is_that_of_the_stored_image_and_known_of_what_is_too_large() -> None:
    assert decoded(jpg=JPEG, txt=b"red").size == (12, 8)
    strip = encoded(Image.new("L", (302, 1)), "PNG")
    assert (decoded(png=strip, txt=b"red").status, decoded(png=strip, txt=b"red").size) == ("image_too_large", (302, 1))
    assert decoded(jpg=b"no image", txt=b"red").size is None
    assert decoded(txt=b"red").size is None


def test_the_fields_asked_for_are_kept_as_text_where_they_are_text_numbers_or_truth_values() -> None:
    document = {
        "a": "été",
        "b": 12,
        "c": 0.25,
        "d": True,
        "e": None,
        "f": ["x"],
        "g": {"x": 1},
        "h": "\ud800",
        "i": "no",
    }
    sample = decode(raw(jpg=JPEG, txt=b"red", json=json.dumps(document).encode()), None, VIEWS, [*"abcdefgh", "absent"])
    assert sample.metadata == {"a": "été", "b": "12", "c": "0.25", "d": "true"}


@pytest.mark.parametrize("document", [b"", b"{", b"[1]", b"\xff"])
def test_without_a_readable_json_no_field_is_kept(document: bytes) -> None:
    sample = decode(raw(jpg=JPEG, txt=b"red", json=document), None, VIEWS, ["a"])
    assert (sample.status, sample.metadata) == (SampleStatus.OK, {})


def test_a_bad_sample_keeps_its_fields_too() -> None:
    sample = decode(raw(txt=b"red", json=b'{"a": 1}'), None, VIEWS, ["a"])
    assert (sample.status, sample.metadata) == (SampleStatus.NO_IMAGE, {"a": "1"})
