"""Rows of csv, tsv and jsonl files, from a byte on, line by line within bounds."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from coreset.errors import ShardUnreadable, Unavailable
from coreset_workers.data.opening import REFUSALS, open_file
from coreset_workers.data.tables.process import DamagedRows

MAX_LINE_BYTES = 2**20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BLOCK_BYTES = 2**20

Row = dict[str, Any]


class ListFile:
    """An open csv, tsv or jsonl file.

    Attributes:
        header: names of a csv's columns; None for jsonl.
        start: the byte at which the rows begin.
        offset: the byte after the row that was read last.
    """

    def __init__(self, file: BinaryIO, uri: str) -> None:
        self._file, self._uri = file, uri
        self.header: list[str] | None = None
        self.offset = len(BYTE_ORDER_MARK) if self._read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK else 0
        self._delimiter = ","
        if not uri.endswith(".jsonl"):
            self._read_header()
        self.start = self.offset

    def rows(self, first: int | None = None, end: int | None = None) -> Iterator[Row | None]:
        """Yield the rows that begin in [first, end); None for one that cannot be read. Empty lines are no rows.

        Raises:
            DamagedRows: a line is too long.
            Unavailable: the transfer broke off.
        """
        self.offset = self.start if first is None else first
        yield from self._json(end) if self.header is None else self._csv(self.header, end)

    def _json(self, end: int | None) -> Iterator[Row | None]:
        for line in self._lines(end):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            yield value if isinstance(value, dict) else None

    def _csv(self, header: list[str], end: int | None) -> Iterator[Row | None]:
        # A byte that is not UTF-8 survives as half a surrogate pair, so that decoding judges the caption as it stands.
        lines = (line.decode(errors="surrogateescape") for line in self._lines(None))
        reader = csv.reader(lines, delimiter=self._delimiter)
        while end is None or self.offset < end:
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error:
                yield None
                continue
            if values:
                yield dict(zip(header, values, strict=False)) if len(values) <= len(header) else None

    def _read_header(self) -> None:
        line = next(self._lines(None), b"")
        self._delimiter = "\t" if b"\t" in line else ","
        names = next(csv.reader([line.decode(errors="replace")], delimiter=self._delimiter), [])
        if not names or len(set(names)) < len(names):
            raise ShardUnreadable(
                f"{self._uri} has {'two columns of one name' if names else 'no first line'}; expected a first line "
                "with the names of the columns",
                uri=self._uri,
            )
        self.header = names

    def _lines(self, end: int | None) -> Iterator[bytes]:
        """Yield lines with their ends, while `offset`, the end of the one before, is below `end`."""
        self._file.seek(self.offset)
        rest = b""
        while block := self._read(BLOCK_BYTES):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                if end is not None and self.offset >= end:
                    return
                yield self._line(line + b"\n")
            self._require_short(rest)
        if rest and (end is None or self.offset < end):
            yield self._line(rest)

    def _line(self, line: bytes) -> bytes:
        self._require_short(line)
        self.offset += len(line)
        return line

    def _require_short(self, line: bytes) -> None:
        if len(line) > MAX_LINE_BYTES:
            raise DamagedRows(f"a line of more than {MAX_LINE_BYTES:,} bytes after byte {self.offset:,}")

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except Exception as error:  # a file system's own kinds are many, and some are no OSErrors
            raise Unavailable(f"{self._uri} broke off ({type(error).__name__})", uri=self._uri) from error


@contextmanager
def open_list(uri: str) -> Iterator[ListFile]:
    """Open a csv, tsv or jsonl file.

    Raises:
        ShardUnreadable: it cannot be opened, or a csv has no header.
        Unavailable: the storage fails in a way that may pass.
    """
    try:
        file = open_file(uri)
    except REFUSALS as error:
        raise ShardUnreadable(f"{uri} cannot be opened: {type(error).__name__}", uri=uri) from error
    except OSError as error:
        raise Unavailable(f"{uri} cannot be opened now: {type(error).__name__}", uri=uri) from error
    with file:
        yield ListFile(file, uri)
