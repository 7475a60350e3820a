"""Files through fsspec. Storage is the truth: what is written here appears whole or not at all.

Layout below the storage root:

    plans/{plan_id}/plan.json           the plan
    plans/{plan_id}/prepared/           reference batch, directions, step sizes
    plans/{plan_id}/parts/              a Parquet file a shard, and its summary
    plans/{plan_id}/thumbnails/         a Parquet file a shard, if they are wanted
    plans/{plan_id}/jobs/               an empty file a job that uses the plan
    jobs/{job_id}/                      manifest.json, summary.json, report.html
    jobs/{job_id}/selections/{id}/      subset.npy, subset.parquet, selection.json, shards/
"""

import hashlib
import posixpath
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import duckdb
import fsspec  # pyright: ignore[reportMissingTypeStubs]
import pyarrow.dataset as ds

from coreset.errors import NotFound
from coreset.schemas.manifest import File
from coreset.storage.byte_sink import ByteSink
from coreset.storage.complete_reads import missing_library, with_complete_reads


class Storage:
    """A folder on any fsspec file system, with writes that are all or nothing.

    Args:
        root: a local path or a URI (file, s3, gs, hf, memory).

    Raises:
        InvalidInput: the library for the URI's scheme is not installed.
    """

    def __init__(self, root: str) -> None:
        # Without a cache of listings: a file that another worker wrote since would be taken for absent.
        try:
            fs, path = cast(tuple[Any, str], fsspec.core.url_to_fs(root, use_listings_cache=False))  # pyright: ignore
        except ImportError as error:
            raise missing_library(error) from error
        self.root = root
        self._fs = cast(Any, with_complete_reads(fs))
        self._path = path.rstrip("/")

    def path(self, name: str) -> str:
        """Return the file system's own path of a name below the root."""
        return posixpath.join(self._path, name)

    def uri(self, name: str) -> str:
        """Return the path of a local file, else its URI."""
        path = self.path(name)
        return path if self.local else cast(str, self._fs.unstrip_protocol(path))

    @property
    def local(self) -> bool:
        protocol = self._fs.protocol
        return "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    def exists(self, name: str) -> bool:
        return bool(self._fs.exists(self.path(name)))

    def names(self, folder: str) -> list[str]:
        """Return the sorted base names of the files in a folder; none if there is no such folder."""
        if not self.exists(folder):
            return []
        listed = cast(list[str], self._fs.ls(self.path(folder), detail=False, refresh=True))
        return sorted(posixpath.basename(path) for path in listed if not posixpath.basename(path).startswith("."))

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size of every file in a folder by base name, half-written ones too; none if there is no folder."""
        return {posixpath.basename(entry["name"]): int(entry["size"]) for entry in self._files(folder)}

    def stamps(self, folder: str) -> dict[str, str]:
        """Return size and version (tag or time) of every file in a folder by base name; none if there is no folder."""
        found: dict[str, str] = {}
        for entry in self._files(folder):
            version = entry.get("ETag") or entry.get("mtime") or entry.get("LastModified")
            found[posixpath.basename(entry["name"])] = f"{entry['size']} {version}"
        return found

    def _files(self, folder: str) -> list[dict[str, Any]]:
        if not self.exists(folder):
            return []
        listed = cast(list[dict[str, Any]], self._fs.ls(self.path(folder), detail=True, refresh=True))
        return sorted((entry for entry in listed if entry["type"] == "file"), key=lambda entry: entry["name"])

    def open(self, name: str) -> BinaryIO:
        try:
            return cast(BinaryIO, self._fs.open(self.path(name), "rb"))
        except FileNotFoundError as error:
            raise NotFound(f"{name} is not in the storage", name=name) from error

    def read(self, name: str) -> bytes:
        with self.open(name) as file:
            return file.read()

    def parquet(self, names: list[str]) -> ds.Dataset:
        """Return Parquet files of one schema as a table that is read as it is asked."""
        paths = [self.path(name) for name in names]
        return ds.dataset(paths, filesystem=self._fs, format="parquet") if paths else ds.dataset([])

    def register_in(self, db: duckdb.DuckDBPyConnection) -> None:
        """Let DuckDB read what `uri` names; local files it reads by itself."""
        if not self.local:
            db.register_filesystem(self._fs)

    def write(self, name: str, data: bytes, rows: int | None = None) -> File:
        """Write the file whole or not at all, over an older one if there is one."""

        def fill(file: BinaryIO) -> None:
            file.write(data)

        return self.write_with(name, fill, rows)

    def write_with(self, name: str, fill: Callable[[BinaryIO], object], rows: int | None = None) -> File:
        """Let `fill` write the file's bytes, then make it appear under its name at once.

        On a local disk that is a rename. On an object store the upload is completed, or given up if `fill` raises.
        """
        target = self.path(name)
        self._fs.makedirs(posixpath.dirname(target), exist_ok=True)
        write = self._write_local if self.local else self._upload
        hashed = write(target, fill)
        return File(uri=self.uri(name), rows=rows, size=hashed.size, sha256=hashed.sha256.hexdigest())

    def _write_local(self, target: str, fill: Callable[[BinaryIO], object]) -> "_HashedFile":
        temporary = Path(f"{posixpath.dirname(target)}/.{posixpath.basename(target)}.{uuid.uuid4().hex}")
        try:
            with temporary.open("wb") as file:
                hashed = _HashedFile(file)
                fill(cast(BinaryIO, hashed))
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return hashed

    def _upload(self, target: str, fill: Callable[[BinaryIO], object]) -> "_HashedFile":
        # Not `with`: fsspec's files complete what they have when an exception leaves the block.
        file = self._fs.open(target, "wb", autocommit=False)
        try:
            hashed = _HashedFile(file)
            fill(cast(BinaryIO, hashed))
            file.close()
            file.commit()
        except BaseException:
            file.discard()
            file.closed = True  # else the garbage collector closes it, and closing uploads what is there
            raise
        return hashed

    def delete(self, name: str) -> None:
        """Delete a file or a folder with all that is in it; nothing happens if it is not there."""
        if self.exists(name):
            self._fs.rm(self.path(name), recursive=True)


class _HashedFile(ByteSink):
    """A write-only file that counts and hashes what passes through. Its owner closes the file below."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(self._pass_on)
        self._file = file
        self.sha256 = hashlib.sha256()

    def _pass_on(self, data: memoryview) -> None:
        self._file.write(data)
        self.sha256.update(data)

    def flush(self) -> None:
        self._file.flush()
