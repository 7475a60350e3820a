"""What a sample costs before the model sees it, in milliseconds of one core: decoders, resize, tokenizer, pipe."""

import io
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from typing import Any

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from coreset_workers.data.decode import Sample

Pixels = NDArray[np.uint8]


def _pillow(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _simplejpeg(data: bytes) -> Image.Image:
    return Image.fromarray(simplejpeg.decode_jpeg(data, "RGB"))


def _simplejpeg_fast(data: bytes) -> Image.Image:
    return Image.fromarray(simplejpeg.decode_jpeg(data, "RGB", fastdct=True, fastupsample=True))


def _torchvision(data: bytes) -> Image.Image:
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    decoded: Any = decode_jpeg(encoded, mode=ImageReadMode.RGB)
    return Image.fromarray(decoded.permute(1, 2, 0).numpy())


DECODERS = {
    "pillow": _pillow,
    "simplejpeg": _simplejpeg,
    "simplejpeg_fast": _simplejpeg_fast,
    "torchvision": _torchvision,
}
"""JPEG bytes to the image that Pillow's resize takes. PyTurboJPEG's wheel brings no libjpeg-turbo; Pillow's and
simplejpeg's do. Torchvision's decoders are deprecated since 0.29."""


def decoders(images: Sequence[bytes], cfg: PreprocessCfg, rounds: int) -> dict[str, dict[str, float]]:
    """Return for each decoder `decode_ms` and `with_resize_ms` an image, and how its pixels differ from Pillow's."""
    resize = pillow_resize(cfg)
    expected = [np.asarray(_pillow(data)) for data in images]
    whole = {name: lambda data, f=decode: resize(f(data)) for name, decode in DECODERS.items()}
    alone, resized = milliseconds(DECODERS, images, rounds), milliseconds(whole, images, rounds)
    found = {}
    for name, decode in DECODERS.items():
        differences = compared([np.asarray(decode(data)) for data in images], expected)
        found[name] = {"decode_ms": alone[name], "with_resize_ms": resized[name], **differences}
    return found


def resizers(images: Sequence[bytes], cfg: PreprocessCfg, rounds: int) -> dict[str, dict[str, float]]:
    """Return what bicubic resize and crop cost: Pillow's, which scoring uses, and torchvision's on uint8 tensors."""
    pictures = [Image.open(io.BytesIO(data)).convert("RGB") for data in images]
    ways = {"pillow": pillow_resize(cfg), "torchvision": _torchvision_resize(cfg)}
    found = milliseconds(ways, pictures, rounds)
    expected = [ways["pillow"](picture) for picture in pictures]
    return {n: {"ms": found[n], **compared([way(p) for p in pictures], expected)} for n, way in ways.items()}


def pillow_resize(cfg: PreprocessCfg) -> Callable[[Image.Image], Pixels]:
    transform: Any = image_transform_v2(cfg, is_train=False)

    def resize(picture: Image.Image) -> Pixels:
        for step in transform.transforms[:-2]:
            picture = step(picture)
        return np.asarray(picture)

    return resize


def _torchvision_resize(cfg: PreprocessCfg) -> Callable[[Image.Image], Pixels]:
    size = cfg.size if isinstance(cfg.size, int) else cfg.size[0]

    def resize(picture: Image.Image) -> Pixels:
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        resized = tv.resize(pixels, [size], InterpolationMode.BICUBIC, antialias=True)
        return tv.center_crop(resized, [size, size]).permute(1, 2, 0).numpy()

    return resize


def compared(found: Sequence[Pixels], expected: Sequence[Pixels]) -> dict[str, float]:
    """Return the largest difference in levels (of 255), and the share of the values that differ."""
    differences = [np.abs(f.astype(int) - e) for f, e in zip(found, expected, strict=True)]
    shares = [float((d > 0).mean()) for d in differences]
    return {"largest_difference": float(max(d.max() for d in differences)), "share_differing": statistics.mean(shares)}


def milliseconds(ways: dict[str, Callable[[Any], Any]], items: Sequence[Any], rounds: int) -> dict[str, float]:
    """Return the median over interleaved rounds of the processor time an item, on this thread alone."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.thread_time()
            for item in items:
                way(item)
            found[name].append(1000 * (time.thread_time() - started) / len(items))
    return {name: statistics.median(times) for name, times in found.items()}


def tokenizer(tokens: Any, captions: Sequence[str], rounds: int) -> dict[str, float]:
    """Return where open_clip's tokenizer spends its time on a caption: cleaning (ftfy, html, case), BPE, tensors."""
    for caption in captions:
        tokens([caption])  # it keeps each word's pieces: what counts is the time of a word that it has seen
    ways = {
        "whole": lambda caption: tokens([caption]),
        "encode": tokens.encode,
        "clean": tokens.clean_fn,
    }
    found = milliseconds(ways, captions, rounds)
    return {
        "whole_ms": found["whole"],
        "clean_ms": found["clean"],
        "pieces_ms": found["encode"] - found["clean"],
        "tensors_ms": found["whole"] - found["encode"],
    }


def pipe_ms(samples: list[Sample], rounds: int) -> float:
    """Return the processor time a sample, both ends together, to pickle a call's samples, send and unpickle them."""
    near, far = Pipe(duplex=False)
    found = []
    for _ in range(rounds):
        started = time.process_time()
        sender = threading.Thread(target=far.send, args=(samples,))
        sender.start()
        near.recv()
        sender.join()
        found.append(1000 * (time.process_time() - started) / len(samples))
    return statistics.median(found)
