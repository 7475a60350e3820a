"""One fault of each kind, in the default tests; `make faults` does them all, and often."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

import pytest

from coreset.schemas.job import JobStatus
from tests.faults import cancels, data, kills, outages
from tests.faults.lab import Lab, lab, struck

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FAULTS = {
    "kill -9 while a part is written": partial(kills.kill, moment=kills.writing),
    "a worker frozen until another has its task": partial(kills.freeze, to_the_end=False),
    "Redis killed": outages.redis_killed,
    "Redis wiped": outages.redis_wiped,
    "the service killed": outages.service_killed,
    "a part half-written": data.half_a_part,
    "cancelled while queued": partial(cancels.cancel, status=JobStatus.QUEUED),
}


@pytest.fixture(scope="module")
def broken_in(tiny_pool: Path, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    shards = sorted(tiny_pool.glob("*.tar"))
    with lab(tmp_path_factory.mktemp("faults"), shards, tiny_run) as found:
        yield found.observe()


@pytest.mark.parametrize("name", FAULTS)
def test_the_job_ends_as_if_nothing_had_happened(broken_in: Lab, name: str) -> None:
    struck(FAULTS[name], broken_in, Random(name))
