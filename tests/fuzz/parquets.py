"""Seeded mutations of img2dataset's parquet beside a shard: counted, or without an announcement, and never an error."""

import io
import random
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq

from coreset_workers.data.parquet_counts import ParquetCounter

TEXTS = ["success", "failed_to_download", "s" * 10_000, "", None]


def mutated(seed: int) -> bytes:
    """Return the parquet of a seed."""
    random_ = random.Random(seed)
    statuses = [random_.choice(TEXTS) for _ in range(random_.choice([0, 1, 50, 2000]))]
    name = random_.choice(["status", "status", "state"])
    column = pa.array(statuses if random_.random() < 0.8 else range(len(statuses)))
    codec = random_.choice(["snappy", "zstd", "gzip", "none"])
    buffer = io.BytesIO()
    pq.write_table(pa.table({name: column}), buffer, compression=codec, use_dictionary=random_.random() < 0.7)
    data = bytearray(buffer.getvalue())
    for _ in range(random_.choice([0, 1, 1, 4, 32])):
        data[random_.randrange(len(data))] = random_.randrange(256)
    if random_.random() < 0.2:
        del data[random_.randrange(len(data)) :]
    return bytes(data)


def read(counter: ParquetCounter, data: bytes) -> Counter[str]:
    """Count a parquet's successes as a worker does. Whatever becomes of the child process, this one goes on."""
    count = counter.count(data)
    assert count is None or 0 <= count <= 2000
    return Counter(["none" if count is None else "counted"])
