"""The samples of a tar shard in every other format of a pool."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from coreset_workers.data.tar import RawSample, ShardReader

Row = dict[str, Any]


def rows_of(tar: Path) -> list[Row]:
    """Return the samples as rows with key, jpg (None without one), txt, and the fields of the json member."""
    return [_row(raw) for raw in ShardReader(str(tar))]


def _row(raw: RawSample) -> Row:
    fields = json.loads(raw.members.get("json", b"{}"))
    return {"key": raw.key, "jpg": raw.image(), "txt": raw.members["txt"].decode(), **fields}


def write_parquet(rows: list[Row], folder: Path, stem: str = "000000", **options: Any) -> Path:
    """Write the images' bytes in a column `jpg`, as img2dataset does."""
    path = folder / f"{stem}.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def write_hugging_face(rows: list[Row], folder: Path, stem: str = "000000") -> Path:
    """Write Parquet as `Dataset.to_parquet` does: an image is a struct of bytes and path."""
    path = folder / f"{stem}.parquet"
    pq.write_table(_images_as_structs(rows), path)
    return path


def write_arrow(rows: list[Row], folder: Path, stem: str = "000000") -> Path:
    """Write a stream of record batches, as `Dataset.save_to_disk` does."""
    path, table = folder / f"{stem}.arrow", _images_as_structs(rows)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=25)
    return path


def _images_as_structs(rows: list[Row]) -> pa.Table:
    changed = [
        {
            "image": None if row["jpg"] is None else {"bytes": row["jpg"], "path": f"{row['key']}.jpg"},
            "text": row["txt"],
            **{name: value for name, value in row.items() if name not in ("jpg", "txt", "caption")},
        }
        for row in rows
    ]
    return pa.Table.from_pylist(changed)


def with_files(rows: list[Row], folder: Path) -> list[Row]:
    """Write the images below the folder, and return the rows with their paths in the place of the images."""
    (folder / "images").mkdir(exist_ok=True)
    found = []
    for row in rows:
        path = f"images/{row['key']}.jpg"
        if row["jpg"] is not None:
            (folder / path).write_bytes(row["jpg"])
        others = {name: value for name, value in row.items() if name not in ("jpg", "txt", "caption")}
        found.append({"file_name": path, "text": row["txt"], **others})
    return found


def write_csv(rows: list[Row], folder: Path, stem: str = "000000", delimiter: str = ",") -> Path:
    path, named = folder / f"{stem}.csv", with_files(rows, folder)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, named[0].keys(), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(named)
    return path


def write_tsv(rows: list[Row], folder: Path, stem: str = "000000") -> Path:
    """Write a csv with tabs, as open_clip's own trainer reads by default."""
    return write_csv(rows, folder, stem, delimiter="\t")


def write_jsonl(rows: list[Row], folder: Path, stem: str = "000000") -> Path:
    path = folder / f"{stem}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in with_files(rows, folder)))
    return path


def write_paths(rows: list[Row], folder: Path, stem: str = "000000") -> Path:
    """Write a Parquet with the images' paths."""
    path = folder / f"{stem}.parquet"
    pq.write_table(pa.Table.from_pylist(with_files(rows, folder)), path)
    return path


WRITERS: dict[str, Callable[[list[Row], Path], Path]] = {
    "parquet": write_parquet,
    "hugging face parquet": write_hugging_face,
    "arrow": write_arrow,
    "csv": write_csv,
    "tsv": write_tsv,
    "jsonl": write_jsonl,
    "parquet of paths": write_paths,
}
