"""Formats of shards, by their names."""

from typing import Literal

Format = Literal["tar", "parquet", "arrow", "list"]

_SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".csv": "list",
    ".tsv": "list",
    ".jsonl": "list",
}


def format_of(uri: str) -> Format:
    """Return the format of a shard; whatever has no other known suffix is a tar."""
    for suffix, found in _SUFFIXES.items():
        if uri.lower().endswith(suffix):
            return found
    return "tar"
