"""A shard of rows: samples of a Parquet, Arrow, csv, tsv or jsonl file, raw, as those of a tar are.

A row becomes the members that a tar would have: the image under its extension, the caption as `txt`, and the other
columns with text, numbers or truth values as `json`. So uids, metadata and faults are judged by the same code.
"""

import json
import math
import posixpath
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

from coreset.errors import LocationForbidden, ShardUnreadable, Unavailable
from coreset.schemas.part import OddityKind
from coreset.schemas.plan import PlannedRows, PlannedShard
from coreset_workers.data.formats import format_of
from coreset_workers.data.oddities import Oddities
from coreset_workers.data.opening import REFUSALS, below, open_file
from coreset_workers.data.tables.lists import open_list
from coreset_workers.data.tables.process import DamagedRows, ask
from coreset_workers.data.tar import MAX_CAPTIONS, RawSample, own_key
from coreset_workers.data.tar_stream import MAX_EXPANSION, max_unpacked

MAX_FILE_BYTES = 64 * 2**20
"""A larger image file that a row names is taken for missing: READ_AHEAD of them are in memory."""

READ_AHEAD = 16
MAX_KEY_CHARACTERS = 500
_MAGIC = {b"\xff\xd8": "jpg", b"\x89PNG": "png", b"RIFF": "webp"}

Row = Mapping[str, Any]
Image = bytes | None


class RowReader:
    """Iterate over a shard's samples, in the order of the rows.

    Attributes:
        damage: after the iteration, what is wrong with the file, or None. The samples before the damage were delivered.
        oddities: what was left aside so far.

    Raises:
        ShardUnreadable: the file cannot be opened, or none of its rows can be read.
        Unavailable: the transfer broke off.
    """

    def __init__(self, shard: PlannedShard) -> None:
        assert shard.rows is not None
        self.damage: str | None = None
        self.oddities = Oddities()
        self._shard, self._rows = shard, shard.rows
        self._format = format_of(shard.uri)
        self._folder = posixpath.dirname(shard.uri)

    def __iter__(self) -> Iterator[RawSample]:
        taken: Counter[str] = Counter()
        delivered = 0
        most = None if self._format == "list" else max_unpacked(self._shard.size)
        try:
            for row, (number, values, image) in enumerate(self._with_images()):
                sample = self._sample(row, number, values, image, taken)
                delivered += sum(map(len, sample.members.values()))
                if most is not None and delivered > most:
                    raise DamagedRows(f"unpacks to more than {MAX_EXPANSION} times its size")
                yield sample
        except DamagedRows as error:
            if not taken:
                raise ShardUnreadable(f"{self._shard.label}: {error}", uri=self._shard.uri) from error
            self.damage = str(error)

    def _with_images(self) -> Iterator[tuple[int, Row | None, Image]]:
        """Yield (number, row, image); files that rows name are read ahead, since storages take their time."""
        waiting: deque[tuple[int, Row | None, Future[Image]]] = deque()
        with ThreadPoolExecutor(READ_AHEAD) as threads, closing(self._read()) as rows:
            try:
                for number, row in rows:
                    value = (row or {}).get(self._rows.image)
                    path = _path(value)
                    if path is None and not waiting:
                        yield number, row, _bytes(value)
                        continue
                    waiting.append((number, row, threads.submit(self._image, value, path)))
                    if len(waiting) >= READ_AHEAD:
                        first, values, image = waiting.popleft()
                        yield first, values, image.result()
            except DamagedRows:
                yield from ((number, row, image.result()) for number, row, image in waiting)
                raise
            yield from ((number, row, image.result()) for number, row, image in waiting)

    def _read(self) -> Generator[tuple[int, Row | None]]:
        """Yield the rows with their numbers in the file, or in the slice of a list."""
        uri, rows = self._shard.uri, self._rows
        if self._format == "list":
            with open_list(uri) as file:
                yield from enumerate(file.rows(rows.first, rows.end))
            return
        if self._format == "parquet":
            answers = ask("read_parquet", uri, rows.image, rows.first or 0, rows.end)
        else:
            answers = ask("read_arrow", uri, rows.image)
        with closing(answers):
            for start, together in answers:
                yield from enumerate(together, start)

    def _image(self, value: object, path: str | None) -> Image:
        """Return the bytes of the file that a row names, or None if it has to be taken for missing.

        Raises:
            Unavailable: the storage fails in a way that may pass.
        """
        if path is None:
            return _bytes(value)
        try:
            with open_file(below(self._folder, path)) as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except (LocationForbidden, ShardUnreadable, ValueError, *REFUSALS):
            return None
        except OSError as error:
            raise Unavailable(f"{path[:200]} cannot be read now: {type(error).__name__}", uri=path[:200]) from error
        return data if len(data) <= MAX_FILE_BYTES else None

    def _sample(self, row: int, number: int, values: Row | None, image: Image, taken: Counter[str]) -> RawSample:
        if values is None:
            self.oddities.add(OddityKind.UNREADABLE_ROW, f"row {number} of {self._shard.label}")
            return RawSample(self._shard.uri, own_key(f"row-{number}", taken), row, captions=[])
        path = _path(values.get(self._rows.image))
        if image is None and path is not None:
            self.oddities.add(OddityKind.UNREADABLE_PATH, f"{path} of {self._shard.label}")
        captions = _captions(values, self._rows)
        members = {"json": _json(values, self._rows.image)}
        members |= {"txt": captions[0]} if captions else {}
        members |= {_extension(image): image} if image is not None else {}
        key = own_key(_key(values, self._rows, path, number), taken)
        return RawSample(self._shard.uri, key, row, members, set(members), captions)


def _path(value: object) -> str | None:
    """Return the path that stands in the place of an image."""
    if isinstance(value, dict):
        return None if value.get("bytes") is not None else _path(value.get("path"))
    return value if isinstance(value, str) and value else None


def _bytes(value: object) -> Image:
    if isinstance(value, dict):
        value = value.get("bytes")
    return value if isinstance(value, bytes) else None


def _extension(image: bytes) -> str:
    """Return the member's extension; decoding goes by the content alone."""
    return next((extension for magic, extension in _MAGIC.items() if image.startswith(magic)), "jpg")


def _captions(values: Row, rows: PlannedRows) -> list[bytes]:
    found: list[str] = []
    for name in rows.captions:
        value = values.get(name)
        each = value if isinstance(value, list) else [value]
        found += [caption for caption in each if isinstance(caption, str)]
    # What was no UTF-8 in a csv is the same bytes again, and half a surrogate pair of a jsonl is none either.
    return [caption.encode(errors="surrogateescape" if _escaped(caption) else "surrogatepass") for caption in found][
        :MAX_CAPTIONS
    ]


def _escaped(caption: str) -> bool:
    return all("\udc80" <= character <= "\udcff" for character in caption if "\ud800" <= character <= "\udfff")


def _json(values: Row, image: str) -> bytes:
    plain = {name: _plain(value) for name, value in values.items() if name != image}
    return json.dumps(plain, default=str).encode()


def _plain(value: object) -> object:
    """Return a value that JSON has; NaN, which Python would write, it has not."""
    if isinstance(value, bytes):
        return None
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _key(values: Row, rows: PlannedRows, path: str | None, number: int) -> str:
    given = values.get(rows.key) if rows.key is not None else None
    text = str(given) if isinstance(given, str | int) and given != "" else ""
    if not text:
        value = values.get(rows.image)
        stored = value.get("path") if isinstance(value, dict) else None
        named = path or (posixpath.basename(stored) if isinstance(stored, str) else "")
        text = posixpath.splitext(named)[0] or f"{number:09d}"
    return text[:MAX_KEY_CHARACTERS].encode(errors="backslashreplace").decode()
