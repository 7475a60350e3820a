"""One bit flipped in a stored file: noticed whenever the file is read, and the file is made again."""

import time
from contextlib import suppress
from pathlib import Path
from random import Random

from coreset.errors import DamagedFile
from tests.faults.lab import Lab

OF_THE_PLAN = {
    "a part": "parts/000003.parquet",
    "a summary": "parts/000003.json",
    "the plan": "plan.json",
    "ready.json": "prepared/ready.json",
    "prepared tensors": "prepared/000.safetensors",
    "a stencil": "prepared/000.json",
}
AT_THE_FINISH = ("a part", "a summary", "ready.json")
"""Files that merging and finishing read."""


def flip(path: Path, random: Random) -> None:
    data = bytearray(path.read_bytes())
    bit = random.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(data))


def posted_again(lab: Lab, random: Random, name: str) -> float:
    """Flip a bit after the job's end, and post the spec again. Seconds: until that job's end."""
    lab.clear()
    lab.ended(lab.submit())
    path = lab.plan_folder / OF_THE_PLAN[name]
    flip(path, random)
    if path.parent.name == "prepared":  # read again only if a shard is still to be scored
        (lab.parts_folder / "000001.json").unlink()
    posted = time.monotonic()
    lab.assert_undisturbed(lab.submit())
    return time.monotonic() - posted


def at_the_finish(lab: Lab, random: Random, name: str) -> float:
    """Flip a bit when all shards are scored: the same job makes the file again. Seconds: until its end."""
    job_id = lab.begin()
    lab.catch("merge", job_id)
    flip(lab.plan_folder / OF_THE_PLAN[name], random)
    lab.wake_workers()
    going = time.monotonic()
    job = lab.assert_undisturbed(job_id)
    seconds = time.monotonic() - going
    assert any(OF_THE_PLAN[name] in warning for warning in job.warnings), f"the job warns of {job.warnings}"
    return seconds


def merge(lab: Lab, random: Random) -> float:
    """Flip a bit in the counts that finishing reads."""
    job_id = lab.begin()
    lab.catch("finish", job_id)
    merges = sorted((Path(lab.stack.storage) / "jobs" / job_id / "merges").glob("*.json"))
    flip(merges[-1], random)
    lab.wake_workers()
    going = time.monotonic()
    lab.assert_undisturbed(job_id)
    return time.monotonic() - going


def manifest(lab: Lab, random: Random) -> float:
    """Flip a bit in a result: it is given as it was written or not at all, and the same spec makes it again."""
    job_id = lab.submit()
    lab.ended(job_id)
    path, known = Path(lab.stack.storage) / "jobs" / job_id / "manifest.json", lab.client.result(job_id)
    flip(path, random)
    with suppress(DamagedFile):
        assert lab.client.result(job_id) == known, "a result with another bit is given"
    posted = time.monotonic()
    lab.assert_undisturbed(lab.submit())
    return time.monotonic() - posted
