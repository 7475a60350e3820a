"""`python -m tests.fuzz --inputs 100000`: the shard reader on mutated shards. Ends with 1 at the first that breaks."""

import argparse
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.fuzz.shards import mutated, read

SECONDS = 60
"""For one input, before it counts as one that never ends."""


class TooLong(BaseException):
    """No Exception, so that no reader takes it for damage."""


def main() -> int:
    signal.signal(signal.SIGALRM, _too_long)
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first input")
    options = parser.parse_args()
    found: Counter[str] = Counter()
    started = time.monotonic()
    slowest = (0.0, 0)
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.first, options.first + options.inputs):
            begun = time.monotonic()
            signal.alarm(SECONDS)
            try:
                found += read(Path(folder) / "000000.tar", mutated(seed))
            except BaseException:
                traceback.print_exc()
                print(f"seed {seed}: --first {seed} --inputs 1 shows it again")
                return 1
            slowest = max(slowest, (time.monotonic() - begun, seed))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{options.inputs:,} inputs in {time.monotonic() - started:,.0f} s, all ended well: {dict(found)}")
    print(f"slowest {slowest[0]:.2f} s (seed {slowest[1]}), peak memory {peak:,.0f} MB")
    return 0


def _too_long(*_: object) -> None:
    raise TooLong(f"{SECONDS} s for one input")


if __name__ == "__main__":
    sys.exit(main())
