"""Unpacks the usable samples of a pool for open_clip's csv reader, leaving out what no loader could read."""

import csv
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

IMAGE_COLUMN, CAPTION_COLUMN = "filepath", "title"


def extract_csv(pool: Path, directory: Path) -> tuple[Path, int]:
    """Copy readable images with a caption into `directory`; return the tab-separated csv and its sample count."""
    csv_path = directory / "train.csv"
    count = 0
    with csv_path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow([IMAGE_COLUMN, CAPTION_COLUMN])
        for _, image, caption in usable_samples(pool):
            image_path = directory / f"{count}.jpg"  # keys repeat across shards
            image_path.write_bytes(image)
            writer.writerow([image_path, caption])
            count += 1
    return csv_path, count


def usable_samples(pool: Path) -> Iterator[tuple[str, bytes, str]]:
    """Yield (key, JPEG, caption) of each sample that has a caption and an image that decodes."""
    shards = sorted(pool.glob("*.tar"))
    if not shards:
        raise FileNotFoundError(f"no shards (*.tar) in {pool}")
    for shard in shards:
        for key, members in _members_by_key(shard).items():
            image, caption = members.get("jpg"), members.get("txt", b"").decode().strip()
            if image and caption and decodes(image):
                yield key, image, caption


def decodes(image: bytes) -> bool:
    """Whether Pillow can read the whole image."""
    try:
        with Image.open(io.BytesIO(image)) as opened:
            opened.load()
    except (OSError, UnidentifiedImageError, SyntaxError):
        return False
    return True


def _members_by_key(shard: Path) -> dict[str, dict[str, bytes]]:
    """A shard's files as key -> extension -> content."""
    samples: dict[str, dict[str, bytes]] = {}
    with tarfile.open(shard) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None:
                key, _, extension = member.name.partition(".")
                samples.setdefault(key, {})[extension] = content.read()
    return samples
