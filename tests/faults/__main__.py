"""`python -m tests.faults --json OUT`: break a running service in every way listed, and print what became of it.

The pool is drawn and a tiny CLIP is trained first. One stack of processes bears all faults, so none of them may leave
something behind that hurts the next.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

from coreset.errors import Conflict
from coreset.schemas.job import TERMINAL, JobStatus
from tests.conftest import train_tiny
from tests.faults import cancels, clocks, data, flips, kills, outages, s3, strangers
from tests.faults.lab import LEASE_SECONDS, STALL_SECONDS, Lab, Strike, lab, struck

SAMPLES, SHARDS = 540, 18
DISK = "200m"


@dataclass(frozen=True)
class Fault:
    """Something that is done to a running job.

    Attributes:
        seconds: what its seconds are, from the fault on.
        times: how often it is tried.
    """

    name: str
    do: Strike
    seconds: str
    times: int = 1


@dataclass
class Found:
    """What became of a fault: seconds of the tries that recovered, and what went wrong in the others."""

    name: str
    meaning: str
    tried: int = 0
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


AGAIN = "the lost task is taken again"
KILLS = [
    Fault(f"kill -9, {name}", partial(kills.kill, moment=moment), AGAIN, 4) for name, moment in kills.MOMENTS.items()
]
CANCELLED = "cancelled"
FAULTS = [
    *KILLS,
    Fault("Redis stopped, and started on its file", outages.redis_away, "the next part", 3),
    Fault("Redis killed, and started on its file", outages.redis_killed, "the next part", 3),
    Fault("Redis wiped, the spec posted again", outages.redis_wiped, "the job's end", 2),
    Fault("the service killed while somebody polls", outages.service_killed, "it answers", 3),
    Fault("a worker frozen until another has its task", partial(kills.freeze, to_the_end=False), AGAIN, 2),
    Fault("a worker frozen until the job has ended", partial(kills.freeze, to_the_end=True), AGAIN, 2),
    Fault("a shard that kills its worker, one may fail", partial(kills.poison, may_fail=1), "given up"),
    Fault("a shard that kills its worker, none may", partial(kills.poison, may_fail=0), "given up"),
    Fault("a shard cut off", partial(data.before_planning, how=data.truncate, fails=False), "the job's end"),
    Fault("a shard of noise", partial(data.before_planning, how=data.garbage, fails=True), "the job's end"),
    Fault("a shard gone after planning", partial(data.after_planning, how=Path.unlink), "the job's end"),
    Fault("a shard changed after planning", partial(data.after_planning, how=data.change), "the job's end"),
    Fault("a part half-written", data.half_a_part, "the job's end"),
    Fault("a read that hangs", data.hang, "the process ends itself"),
    Fault("no memory for two seconds", data.no_memory, "the job's end", 2),
    Fault("cancel, queued", partial(cancels.cancel, status=JobStatus.QUEUED), CANCELLED),
    Fault("cancel, preparing", partial(cancels.cancel, status=JobStatus.PREPARING), CANCELLED, 2),
    Fault("cancel, scoring", partial(cancels.cancel, status=JobStatus.SCORING), CANCELLED, 2),
    Fault("cancel, reducing", partial(cancels.cancel, status=JobStatus.REDUCING), CANCELLED, 2),
    Fault("SIGTERM to a worker", kills.drain, "it exits with 0", 3),
    *(
        Fault(f"a bit flipped in {name}, posted again", partial(flips.posted_again, name=name), "the job's end", 2)
        for name in flips.OF_THE_PLAN
    ),
    *(
        Fault(f"a bit flipped in {name} before the finish", partial(flips.at_the_finish, name=name), "the job's end", 2)
        for name in flips.AT_THE_FINISH
    ),
    Fault("a bit flipped in the counts before the finish", flips.merge, "the job's end"),
    Fault("a bit flipped in a manifest", flips.manifest, "the job's end", 2),
    Fault("records and messages of other versions", strangers.another_version, "the job's end"),
    Fault("300 half-sent requests", strangers.half_sent_requests, "the slowest answer"),
    Fault("hostile parquets beside the shards", strangers.hostile_parquets, "the job's end"),
    Fault("hostile params.txt", strangers.hostile_options, "all refused, and the job's end"),
    Fault("S3: answers of 500", partial(s3.bad_s3, kind="error"), "the job's end"),
    Fault("S3: done, but answered with 500", partial(s3.bad_s3, kind="lost"), "the job's end"),
    Fault("S3: slow answers", partial(s3.bad_s3, kind="slow"), "the job's end"),
    Fault("S3: answers cut off", partial(s3.bad_s3, kind="cut"), "the job's end"),
    Fault("S3: half an answer, called all of it", partial(s3.bad_s3, kind="short"), "the job's end"),
]
JUMPS = {"an hour ahead": clocks.HOUR, "an hour back": -clocks.HOUR}
OF_CLOCKS = [
    *(
        Fault(f"a worker's clock jumps {way}, another dies", partial(clocks.worker, seconds=by), AGAIN, 2)
        for way, by in JUMPS.items()
    ),
    *(
        Fault(f"the service's clock jumps {way}", partial(clocks.service, seconds=by), "the job's end")
        for way, by in JUMPS.items()
    ),
]
ON_A_SMALL_DISK = [
    Fault("the storage's disk full", data.full_disk, "from room again to the job's end"),
    Fault("the storage turns read-only", data.read_only, "from writable again to the job's end"),
]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="OUT")
    parser.add_argument(
        "--only", metavar="WORDS", action="append", help="faults whose names contain these words; OUT keeps the others"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    console, started = Console(), time.monotonic()
    results: list[Found] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with console.status("drawing a pool and training on it"):
            shards, run = make_training(folder)
        wanted = lambda faults: [  # noqa: E731
            fault for fault in faults if any(words in fault.name for words in options.only or [""])
        ]
        if faults := wanted(FAULTS):
            with lab(folder / "data", shards, run) as found:
                results += suffer(console, found.observe(), faults, options.seed)
        if faults := wanted(OF_CLOCKS):
            clock = clocks.library(folder)
            if clock is None:
                console.print("clocks: skipped, since there is no C compiler")
            else:
                with lab(folder / "clocked", shards, run, clock=clock) as found:
                    results += suffer(console, found.observe(), faults, options.seed)
        if faults := wanted(ON_A_SMALL_DISK):
            with small_disk(folder / "disk") as disk:
                if disk is None:
                    console.print("the storage's disk full: skipped, since only root may mount a small disk")
                else:
                    with lab(folder / "other", shards, run, storage=str(disk)) as found:
                        results += suffer(console, found.observe(), faults, options.seed)
    show(console, results)
    if options.json:
        recorded = record(results, options.seed, time.monotonic() - started)
        if options.only and options.json.exists():
            recorded = with_others(recorded, json.loads(options.json.read_text()))
        options.json.write_text(json.dumps(recorded, indent=2) + "\n")
    raise SystemExit(1 if any(found.wrong for found in results) else 0)


def make_training(folder: Path) -> tuple[list[Path], Path]:
    """Draw a pool and train a tiny CLIP on it. Returns the shards and the run."""
    from demo.pool import write_pool

    shards = write_pool(folder / "pool", samples=SAMPLES, shards=SHARDS)
    return shards, train_tiny(folder / "pool", folder)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Mount a disk of its own in memory; None where that is not allowed."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    try:
        yield folder if mounted.returncode == 0 else None
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def suffer(console: Console, lab: Lab, faults: list[Fault], seed: int) -> list[Found]:
    results = []
    for fault in faults:
        found = Found(fault.name, fault.seconds)
        for attempt in range(fault.times):
            found.tried += 1
            try:
                found.seconds.append(struck(fault.do, lab, Random(f"{seed} {fault.name} {attempt}")))
            except Exception as error:
                found.wrong.append(f"{type(error).__name__}: {error}")
                clean(lab)
        console.print(_line(found), highlight=False)
        results.append(found)
    return results


def clean(lab: Lab) -> None:
    """Cancel what a fault that went wrong has left, so that the next one begins with idle workers."""
    lab.wake_workers()
    for job in lab.client.jobs():
        if job.status not in TERMINAL:
            with suppress(Conflict):  # it has ended meanwhile
                lab.client.cancel(job.id)
            lab.ended(job.id)


def _line(found: Found) -> str:
    took = f"{statistics.median(found.seconds):.1f} s" if found.seconds else "-"
    wrong = "".join(f"\n    {text}" for text in found.wrong)
    return f"{found.name}: {len(found.seconds)} of {found.tried}, {took}{wrong}"


def show(console: Console, results: list[Found]) -> None:
    table = Table(title="Faults: scores are compared bit for bit", title_justify="left")
    for heading in ("fault", "tried", "recovered", "seconds, median", "worst", "until", "scores identical"):
        table.add_column(heading)
    for found in results:
        table.add_row(*cells(found), "yes" if not found.wrong else "see above")
    console.print(table)


def cells(found: Found) -> list[str]:
    """Return what the table and docs/reliability.md say of a fault."""
    took = [f"{value(found.seconds):.1f}" if found.seconds else "" for value in (statistics.median, max)]
    return [found.name, str(found.tried), str(len(found.seconds)), *took, found.meaning]


def record(results: list[Found], seed: int, seconds: float) -> dict[str, Any]:
    settings = {"lease_seconds": LEASE_SECONDS, "stall_seconds": STALL_SECONDS, "workers": 2, "shards": SHARDS}
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    return {"seed": seed, "settings": settings, "environment": machine, "seconds": seconds} | {
        "faults": [asdict(found) for found in results]
    }


def with_others(recorded: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Return a record of some faults with the others of an earlier one, in the order of the list."""
    rows = {row["name"]: row for row in (*before["faults"], *recorded["faults"])}
    names = [fault.name for fault in (*FAULTS, *OF_CLOCKS, *ON_A_SMALL_DISK)]
    seconds = before["seconds"] + recorded["seconds"]
    return recorded | {"seconds": seconds, "faults": [rows[name] for name in names if name in rows]}


if __name__ == "__main__":
    main()
