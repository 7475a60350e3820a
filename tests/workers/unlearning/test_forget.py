"""`coreset forget` on a tiny pool and a real training run: the checkpoint that it writes, and how it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow.parquet as pq
import pytest
import torch

from coreset.errors import InvalidInput, PoolUnusable
from coreset.spec.job import JobSpec
from coreset_workers.data.decode import uid_of
from coreset_workers.data.tar import ShardReader
from coreset_workers.model.clip import ClipModel
from coreset_workers.unlearning.__main__ import words
from coreset_workers.unlearning.removal import Forgotten, forget
from tests.coreset.subsets import to_subset

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def spec(tiny_pool: Path, tiny_run: Path) -> dict[str, Any]:
    return {
        "pool": {"shards": [str(tiny_pool / "{000000..000005}.tar")]},
        "checkpoints": {"run": str(tiny_run)},
        "reference": {"size": 24},
        "select": {"k": 40},
    }


@pytest.fixture(scope="module")
def defects(tiny_pool: Path) -> dict[str, list[str]]:
    """Uids by defect; the sound ones under `sound`."""
    of = {row["uid"]: row["defect"] for row in pq.read_table(tiny_pool / "defects.parquet").to_pylist()}
    found: dict[str, list[str]] = {}
    for shard in sorted(tiny_pool.glob("*.tar")):
        for raw in ShardReader(str(shard)):
            uid = uid_of(raw, None)
            found.setdefault(of.get(uid, "sound"), []).append(uid)
    return found


def forgotten(spec: dict[str, Any], uids: list[str], out: Path) -> Forgotten:
    return forget(JobSpec.model_validate(spec), uids, out, lambda stage, share: None, loader_processes=0)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.timeout(300)  # a process that imports torch and open_clip: ten seconds, on a busy machine a hundred
@pytest.mark.slow
def test_the_command_writes_a_checkpoint_that_open_clip_loads(
    tmp_path: Path, spec: dict[str, Any], tiny_run: Path, defects: dict[str, list[str]]
) -> None:
    chosen = defects["sound"][:12]
    (tmp_path / "job.json").write_text(json.dumps(spec))
    np.save(tmp_path / "set.npy", to_subset(chosen))
    command = [sys.executable, "-m", "coreset", "forget", "job.json", "--uids", "set.npy", "--out", "without.pt"]
    command += ["--json"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=_environment())
    assert ended.returncode == 0, ended.stderr
    done = json.loads(ended.stdout)
    assert (done["file"], done["removed"], done["n_samples"]) == (str(tmp_path / "without.pt"), 12, 180)
    architecture = json.loads((tiny_run / "open_clip_config.json").read_text())["model_cfg"]
    model = open_clip.CLIP(**architecture)
    open_clip.load_checkpoint(model, str(tmp_path / "without.pt"))
    before = weights(tiny_run / "checkpoints" / "epoch_2.pt")
    moved = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert "visual.proj" in moved
    assert {path.name for path in tmp_path.iterdir()} == {"job.json", "set.npy", "without.pt"}


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "CORESET_LOADER_PROCESSES": "0"}


def test_the_model_knows_the_forgotten_samples_less(
    tmp_path: Path, spec: dict[str, Any], defects: dict[str, list[str]]
) -> None:
    done = forgotten(spec, defects["sound"][:12], tmp_path / "out.pt")
    rise, rise_elsewhere = (after - before for before, after in (done.set_loss, done.reference_loss))
    assert rise > 0
    assert rise > rise_elsewhere
    assert 0 < done.moved < 0.1 * done.norm


@pytest.mark.slow
def test_no_model_is_made_in_float64(
    tmp_path: Path, spec: dict[str, Any], defects: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[ClipModel] = []

    class Watched(ClipModel):
        @classmethod
        def build(cls, *arguments: Any, **named: Any) -> ClipModel:
            built.append(model := ClipModel.build(*arguments, **named))
            return model

    monkeypatch.setattr("coreset_workers.influence.trace.ClipModel", Watched)
    forgotten(spec, defects["sound"][:3], tmp_path / "out.pt")
    assert [model.mean.dtype for model in built] == [torch.float32]


def test_only_counted_parameters_move(
    tmp_path: Path, spec: dict[str, Any], tiny_run: Path, defects: dict[str, list[str]]
) -> None:
    counted = ["visual.proj", "text_projection"]
    forgotten(spec | {"parameters": {"names": counted}}, defects["sound"][:3], tmp_path / "out.pt")
    before, after = weights(tiny_run / "checkpoints" / "epoch_2.pt"), weights(tmp_path / "out.pt")
    assert sorted(name for name in before if not torch.equal(before[name], after[name])) == sorted(counted)


def test_what_was_done_is_told_in_a_sentence() -> None:
    done = Forgotten(12, 180.0, 0.5, 10.0, (2.0, 3.0), (2.0, 2.1), [])
    assert "12 of 180 samples (6.67%)" in words(done, Path("without.pt"))


def test_bad_samples_are_told_and_left_out(tmp_path: Path, spec: dict[str, Any], defects: dict[str, list[str]]) -> None:
    done = forgotten(spec, defects["sound"][:3] + defects["empty_caption"][:1], tmp_path / "out.pt")
    assert done.removed == 3
    assert any("1 of the samples are bad" in warning for warning in done.warnings)
    with pytest.raises(PoolUnusable, match="no training has seen"):
        forgotten(spec, defects["empty_caption"][:1], tmp_path / "other.pt")
    assert not (tmp_path / "other.pt").exists()


def test_uids_that_are_not_in_the_pool_are_named(
    tmp_path: Path, spec: dict[str, Any], defects: dict[str, list[str]]
) -> None:
    strange = f"{7:032x}"
    with pytest.raises(PoolUnusable, match=f"1 of 2 uids are not in the pool: {strange}"):
        forgotten(spec, [defects["sound"][0], strange], tmp_path / "out.pt")


def test_nothing_is_overwritten(tmp_path: Path, spec: dict[str, Any], defects: dict[str, list[str]]) -> None:
    (tmp_path / "out.pt").write_bytes(b"precious")
    with pytest.raises(InvalidInput, match="is there already"):
        forgotten(spec, defects["sound"][:1], tmp_path / "out.pt")
    with pytest.raises(InvalidInput, match="there is no folder"):
        forgotten(spec, defects["sound"][:1], tmp_path / "nowhere" / "out.pt")
    assert (tmp_path / "out.pt").read_bytes() == b"precious"


@pytest.mark.parametrize("command", ["job", "uids"])
def test_the_command_says_what_is_wrong(tmp_path: Path, spec: dict[str, Any], command: str) -> None:
    (tmp_path / "job.json").write_text(json.dumps(spec if command == "uids" else {"pool": 3}))
    (tmp_path / "set.txt").write_text("abc\nnot a uid\n")
    words = [sys.executable, "-m", "coreset", "forget", "job.json", "--uids", "set.txt", "--out", "out.pt"]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, env=_environment())
    assert ended.returncode == 2
    assert ("line 2: 'not a uid' is not a uid" if command == "uids" else "pool") in ended.stderr
    assert "Traceback" not in ended.stderr
