"""epoch_latest.pt that goes beyond the last numbered checkpoint is not passed over in silence."""

import shutil
from pathlib import Path

import pytest
import torch

from coreset.spec.checkpoints import CheckpointsSpec
from coreset_workers.checkpoints.run import plan_checkpoints


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def warnings(run: Path) -> list[str]:
    return plan_checkpoints(CheckpointsSpec(run=str(run)), None).warnings


def test_a_newer_latest_is_named_with_the_way_to_use_it(run: Path) -> None:
    content = torch.load(run / "checkpoints" / "epoch_2.pt", weights_only=True)
    for state in content["optimizer"]["state"].values():
        state["step"] += 7
    torch.save(content, run / "checkpoints" / "epoch_latest.pt")
    (warning,) = warnings(run)
    assert "epoch_latest.pt" in warning
    assert "is newer than" in warning
    assert "copy it to epoch_K.pt" in warning


def test_a_latest_of_the_last_epoch_is_no_news(run: Path) -> None:
    shutil.copy(run / "checkpoints" / "epoch_2.pt", run / "checkpoints" / "epoch_latest.pt")
    assert warnings(run) == []


def test_a_latest_that_cannot_be_read_does_not_stop_the_job(run: Path) -> None:
    (run / "checkpoints" / "epoch_latest.pt").write_bytes(b"half")
    (warning,) = warnings(run)
    assert "epoch_latest.pt is not used, and cannot be read" in warning
