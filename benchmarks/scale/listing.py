"""Seconds to plan the shards of a pool on a storage that takes 50 ms an answer.

python -m benchmarks.scale.listing --json OUT
"""

import argparse
import io
import json
import time
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec import AbstractFileSystem

from benchmarks.environment import environment
from coreset.spec.pool import PoolSpec
from coreset_workers.data.listing import list_shards

LATENCY = 0.05
NAMES_A_REQUEST = 1000
"""Names in one answer of S3's listing."""


class SlowStore(AbstractFileSystem):
    """Files that take as long as S3's: each file's size, each read, each thousand names."""

    protocol = "s3"
    files: ClassVar[dict[str, bytes]] = {}

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        time.sleep(LATENCY)
        return self._entry(self._name(path))

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        folder = f"{self._strip_protocol(path)}/"
        found = [self._entry(name) for name in self.files if name.startswith(folder)]
        time.sleep(LATENCY * -(-len(found) // NAMES_A_REQUEST))
        return found

    def _entry(self, name: str) -> dict[str, Any]:
        if name not in self.files:
            raise FileNotFoundError(name)
        return {"name": name, "type": "file", "size": len(self.files[name]), "ETag": name[-12:]}

    def _name(self, path: str) -> str:
        return str(self._strip_protocol(path))

    def _open(self, path: str, mode: str = "rb", *arguments: Any, **options: Any) -> Any:
        self.info(path)
        time.sleep(LATENCY)
        return io.BytesIO(self.files[self._name(path)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.listing", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.add_argument("--shards", type=int, default=128_000)
    options = parser.parse_args()
    fsspec.register_implementation("s3", SlowStore, clobber=True)
    tar, entries = bytes(20_480), []
    for number in range(options.shards):
        for folder in ("plain", "announced"):
            SlowStore.files[f"pool/{folder}/{number:08d}.tar"] = tar
        SlowStore.files[f"pool/announced/{number:08d}_stats.json"] = b'{"successes": 10}'
        entries.append({"url": f"plain/{number:08d}.tar", "filesize": len(tar), "nsamples": 10})
    SlowStore.files["pool/index.json"] = json.dumps({"shardlist": entries}).encode()
    shards = f"{{00000000..{options.shards - 1:08d}}}.tar"
    pools = {
        "an index": "s3://pool/index.json",
        "a folder": f"s3://pool/plain/{shards}",
        "a folder with _stats.json": f"s3://pool/announced/{shards}",
    }
    result: dict[str, Any] = {"environment": environment(), "latency": LATENCY, "shards": options.shards, "seconds": {}}
    for name, uri in pools.items():
        started = time.monotonic()
        found = list_shards(PoolSpec(shards=[uri]))
        result["seconds"][name] = round(time.monotonic() - started, 1)
        print(name, result["seconds"][name], found[-1].expected, flush=True)
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
