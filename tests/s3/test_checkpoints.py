"""Checkpoints on S3: what lies there, whatever the answers are like."""

from pathlib import Path

import pytest
import s3fs
import torch

from coreset_workers.checkpoints.files import inspect, load, sha256
from coreset_workers.checkpoints.optimizer import optimizer_step
from tests.s3.faulty_proxy import FaultyProxy, now_and_then


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("error", marks=pytest.mark.slow),
        pytest.param("slow", marks=pytest.mark.slow),
        pytest.param("cut", marks=pytest.mark.slow),
        "short",
    ],
)
def test_a_checkpoint_comes_whole_under_every_fault(
    bucket: str, proxy: FaultyProxy, tiny_run: Path, fault: str
) -> None:
    local, uri = str(tiny_run / "checkpoints" / "epoch_1.pt"), f"{bucket}/run/epoch_1.pt"
    s3fs.S3FileSystem().put(local, uri)
    expected = load(local)
    proxy.choose = now_and_then(fault, 0.4, seed=2, methods=("GET",))
    for _ in range(3):
        found = load(uri)
        assert found.state_dict.keys() == expected.state_dict.keys()
        assert all(torch.equal(found.state_dict[name], value) for name, value in expected.state_dict.items())
        assert optimizer_step(inspect(uri).optimizer) == optimizer_step(expected.optimizer)
        assert sha256(uri) == sha256(local)
    assert proxy.counts[fault] > 0
