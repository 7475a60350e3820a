"""`python -m tests.fuzz --inputs 100000`: mutated shards, parquets beside them and options of runs, read as workers do.

Ends with 1 at the first input that breaks a reader.
"""

import argparse
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from coreset_workers.data.parquet_counts import ParquetCounter
from tests.fuzz import params, parquets, shards

SECONDS = 60
"""For one input, before it counts as one that never ends."""


class TooLong(BaseException):
    """No Exception, so that no reader takes it for damage."""


class Kind(NamedTuple):
    """A kind of inputs.

    Attributes:
        read: makes the input of a seed, reads it in a folder, and counts what came of it.
        per: one such input for so many shards, since their reading takes longer.
    """

    name: str
    read: Callable[[Path, int], Counter[str]]
    per: int


def main() -> int:
    signal.signal(signal.SIGALRM, _too_long)
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=100_000, help="shards; of the other kinds a tenth")
    parser.add_argument("--first", type=int, default=0, help="seed of the first input")
    parser.add_argument("--only", choices=["shards", "parquets", "params"])
    options = parser.parse_args()
    counter = ParquetCounter()
    kinds = [
        Kind("shards", lambda folder, seed: shards.read(folder / "000000.tar", shards.mutated(seed)), 1),
        Kind("parquets", lambda _, seed: parquets.read(counter, parquets.mutated(seed)), 10),
        Kind("params", lambda folder, seed: params.read(folder, params.mutated(seed)), 10),
    ]
    try:
        wanted = [kind for kind in kinds if options.only in (None, kind.name)]
        return max(_fuzz(kind, options.first, max(1, options.inputs // kind.per)) for kind in wanted)
    finally:
        counter.close()


def _fuzz(kind: Kind, first: int, inputs: int) -> int:
    """Read inputs of a kind, and return 1 if one breaks its reader, else 0."""
    found: Counter[str] = Counter()
    started = time.monotonic()
    slowest = (0.0, 0)
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, first + inputs):
            begun = time.monotonic()
            signal.alarm(SECONDS)
            try:
                found += kind.read(Path(folder), seed)
            except BaseException:
                traceback.print_exc()
                print(f"seed {seed}: --only {kind.name} --first {seed} --inputs {kind.per} shows it again")
                return 1
            finally:
                signal.alarm(0)
            slowest = max(slowest, (time.monotonic() - begun, seed))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{inputs:,} {kind.name} in {time.monotonic() - started:,.0f} s, all ended well: {dict(found)}")
    print(f"slowest {slowest[0]:.2f} s (seed {slowest[1]}), peak memory {peak:,.0f} MB", flush=True)
    return 0


def _too_long(*_: object) -> None:
    raise TooLong(f"{SECONDS} s for one input")


if __name__ == "__main__":
    sys.exit(main())
