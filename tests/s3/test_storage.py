"""The storage on S3: whole files or an error, and what one worker writes the others see."""

import hashlib
import os
from typing import BinaryIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs

from coreset.errors import NotFound
from coreset.storage.storage import Storage
from tests.s3.faulty_proxy import FaultyProxy, now_and_then
from tests.s3.server import forget_connections

LARGE = 12 * 2**20
UPLOAD_PART = 5 * 2**20


@pytest.fixture
def storage(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(s3fs.S3FileSystem, "default_block_size", UPLOAD_PART)  # so that LARGE goes up in parts
    return Storage(f"{bucket}/results")


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("error", marks=pytest.mark.slow),
        "lost",
        "slow",
        pytest.param("cut", marks=pytest.mark.slow),
        "short",
    ],
)
def test_what_is_written_is_read_back_under_every_fault(storage: Storage, proxy: FaultyProxy, fault: str) -> None:
    proxy.choose = now_and_then(fault, 0.4, seed=1)
    for size in (100, LARGE):
        data = os.urandom(size)
        written = storage.write(f"a/{size}.bin", data)
        assert (written.size, written.sha256) == (size, hashlib.sha256(data).hexdigest())
        assert storage.read(f"a/{size}.bin") == data
    assert storage.names("a") == ["100.bin", f"{LARGE}.bin"]
    assert proxy.counts[fault] > 0


@pytest.mark.parametrize("fault", [pytest.param("cut", marks=pytest.mark.slow), "short"])
def test_a_table_is_whole_for_arrow_and_duckdb_where_answers_are_not(
    storage: Storage, proxy: FaultyProxy, fault: str
) -> None:
    table = pa.table({"row": range(20_000), "image": [os.urandom(90) for _ in range(20_000)]})
    storage.write_with("p/1.parquet", lambda file: pq.write_table(table, file, row_group_size=500))
    proxy.choose = now_and_then(fault, 0.4, seed=1, methods=("GET",))
    for _ in range(5):
        assert storage.parquet(["p/1.parquet"]).to_table().sort_by("row").equals(table)
        with storage.open("p/1.parquet") as file:
            assert pq.read_table(file).equals(table)
        with duckdb.connect() as db:
            storage.register_in(db)
            assert db.sql(f"SELECT * FROM '{storage.uri('p/1.parquet')}' ORDER BY row").arrow().read_all().equals(table)
    assert proxy.counts[fault] > 0


def test_a_storage_that_withholds_the_rest_of_a_file_is_an_error(storage: Storage, proxy: FaultyProxy) -> None:
    storage.write("p/1.bin", os.urandom(1000))
    proxy.choose = lambda method, path: "short" if method == "GET" and path.endswith("1.bin") else None
    with pytest.raises(OSError, match="sends 999 of the 1000 bytes from 0 on, and no more"):
        storage.read("p/1.bin")


@pytest.mark.parametrize("size", [100, LARGE])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(storage: Storage, size: int) -> None:
    storage.write("p/1.json", b"old")

    def fail(file: BinaryIO) -> None:
        file.write(bytes(size))
        raise ValueError("no more")

    for name in ("1.json", "2.json"):
        with pytest.raises(ValueError, match="no more"):
            storage.write_with(f"p/{name}", fail)
    assert storage.read("p/1.json") == b"old"
    assert storage.names("p") == ["1.json"]


@pytest.mark.slow
def test_a_server_that_always_fails_is_an_error(storage: Storage, proxy: FaultyProxy) -> None:
    storage.write("p/1.json", b"old")
    proxy.choose = lambda method, path: "error" if "1.json" in path else None
    with pytest.raises(OSError, match="as asked"):
        storage.write("p/1.json", b"new")
    with pytest.raises(OSError, match="Internal Server Error"):
        storage.read("p/1.json")
    proxy.choose = lambda method, path: None
    assert storage.read("p/1.json") == b"old"


def test_a_file_of_another_worker_is_there_for_one_who_has_looked_before(storage: Storage) -> None:
    storage.write("p/1.json", b"1")
    assert storage.names("p") == ["1.json"]
    forget_connections()
    Storage(storage.root).write("p/2.json", b"2")
    assert storage.exists("p/2.json")
    assert storage.names("p") == ["1.json", "2.json"]
    storage.delete("p")
    assert storage.names("p") == []
    with pytest.raises(NotFound):
        storage.read("p/1.json")
