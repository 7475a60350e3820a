"""A sample's thumbnail: a small JPEG for people to look at, made while the image is in memory anyway."""

import io

from PIL import Image

LONGEST_SIDE = 80
QUALITY = 60
"""1.5 kB of a photograph. WebP would have two thirds of that and take half as long again (Pillow 12)."""


def thumbnail(image: Image.Image) -> bytes:
    """Return a JPEG of an RGB image, its longest side LONGEST_SIDE pixels at most."""
    scale = min(1.0, LONGEST_SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    file = io.BytesIO()
    image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
