"""Faults of the storage: an S3 that answers badly one time in eight, with all files of a job there."""

import tempfile
from pathlib import Path
from random import Random

from tests.faults.lab import Lab
from tests.s3.job import disturb, spoiled
from tests.s3.server import s3_server, taken_for_s3

SHARDS = 6


def bad_s3(lab: Lab, random: Random, kind: str) -> float:
    """Score the first shards on a good S3 and on a bad one. Returns the second job's seconds."""
    run = Path(lab.spec["checkpoints"]["run"])
    with s3_server() as port, taken_for_s3(port) as proxy, tempfile.TemporaryDirectory() as folder:
        seconds = disturb(proxy, Path(folder), lab.shards[:SHARDS], run, spoiled([kind], str(random.random())))
        assert proxy.counts[kind] > 0, "no request was spoiled"
    return seconds
