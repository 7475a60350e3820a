"""Storage: whole or not at all, on a folder and on another file system."""

import hashlib
import uuid
from pathlib import Path
from typing import BinaryIO

import pytest

from coreset.errors import NotFound
from coreset.storage.storage import Storage


@pytest.fixture(params=["folder", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return Storage(str(tmp_path) if request.param == "folder" else f"memory://{uuid.uuid4().hex}")


def test_what_is_written_is_read_with_its_size_and_hash(storage: Storage) -> None:
    written = storage.write("a/b.bin", b"one", rows=7)
    assert storage.read("a/b.bin") == b"one"
    assert (written.rows, written.size, written.sha256) == (7, 3, hashlib.sha256(b"one").hexdigest())
    assert written.uri == storage.uri("a/b.bin")
    storage.write("a/b.bin", b"two")
    assert storage.read("a/b.bin") == b"two"


def test_names_are_the_files_of_one_folder(storage: Storage) -> None:
    for name in ("p/2.json", "p/1.json", "q/3.json"):
        storage.write(name, b"")
    assert storage.names("p") == ["1.json", "2.json"]
    assert storage.names("nowhere") == []


def test_deleted_folders_are_gone_and_absent_ones_are_no_error(storage: Storage) -> None:
    storage.write("p/x/1.json", b"")
    storage.delete("p")
    storage.delete("p")
    assert not storage.exists("p/x/1.json")
    with pytest.raises(NotFound, match=r"p/x/1\.json is not in the storage"):
        storage.read("p/x/1.json")


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.write("p/1.json", b"old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half of the n")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        storage.write_with("p/1.json", fail)
    assert storage.read("p/1.json") == b"old"
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["1.json"]


def test_a_file_appears_only_when_its_writer_is_done(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))

    def look(file: BinaryIO) -> None:
        file.write(b"new")
        assert not storage.exists("p/1.json")
        assert storage.names("p") == []

    storage.write_with("p/1.json", look)
    assert storage.names("p") == ["1.json"]
