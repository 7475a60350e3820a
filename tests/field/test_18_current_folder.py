"""Issue 18, point 18: files of the current folder do not run in the product's place; `up` notices a dead worker."""

import os
import subprocess
from pathlib import Path

import pytest

from coreset.entry_points import LOCAL_MODULE, UNLEARNING_MODULE, WORKER_MODULE, module_command
from coreset.local import LocalStack

DECOYS = ("workers", "service", "demo", "coreset_workers", "coreset_service", "redis", "httpx", "queue")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: full of modules with the names of ours, and of libraries."""
    for name in DECOYS:
        (tmp_path / f"{name}.py").write_text("raise SystemExit(f'a file of the current folder ran: {__file__}')")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("module", [WORKER_MODULE, LOCAL_MODULE, UNLEARNING_MODULE, "demo"])
def test_a_module_is_ours(folder: Path, module: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}  # as `coreset demo` sets it
    shown = subprocess.run(module_command(module, "--help"), env=environment, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert f"usage: python -m {module}" in shown.stdout


def test_the_service_of_a_stack_is_ours(folder: Path) -> None:
    with LocalStack(folder / "data", os.environ, port=0, workers=0) as stack:
        assert stack.children[0].ended is False


def test_up_fails_with_the_log_of_a_worker_that_ends_at_once(tmp_path: Path) -> None:
    environment = {**os.environ, "CORESET_LOADER_PROCESSES": "many"}
    options = ["up", "--port", "0", "--workers", "1", "--data", str(tmp_path)]
    up = subprocess.run(module_command("coreset", *options), env=environment, capture_output=True, text=True)
    assert up.returncode == 3
    assert "coreset is up" not in up.stdout
    assert "worker-0 ended at its start" in up.stderr
    assert str(tmp_path / "logs" / "worker-0.log") in up.stderr
    assert "loader_processes" in up.stderr, "the log's last lines name the cause"
