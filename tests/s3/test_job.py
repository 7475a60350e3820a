"""A job on a bad S3 scores as on a good one."""

from pathlib import Path

import pytest

from tests.s3.faulty_proxy import FaultyProxy
from tests.s3.job import FAULTS, disturb, spoiled

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
def test_a_job_on_a_bad_s3_scores_as_on_a_good_one(
    proxy: FaultyProxy, tiny_pool: Path, tiny_run: Path, tmp_path: Path
) -> None:
    disturb(proxy, tmp_path, sorted(tiny_pool.glob("*.tar"))[:3], tiny_run, spoiled(FAULTS, seed=3))
    assert all(proxy.counts[fault] > 0 for fault in FAULTS), proxy.counts
