"""Issue 18, point 18: files of the current folder do not run in the product's place; `up` notices a dead worker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from coreset.entry_points import LOCAL_MODULE, SERVICE_MODULE, UNLEARNING_MODULE, WORKER_MODULE, module_command
from coreset.local import LocalStack

ROOT = Path(__file__).parents[2]
DECOYS = ("workers", "service", "demo", "coreset_workers", "coreset_service", "redis", "httpx", "queue")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: full of modules with the names of ours, and of libraries."""
    for name in DECOYS:
        (tmp_path / f"{name}.py").write_text("raise SystemExit(f'a file of the current folder ran: {__file__}')")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_worker_is_ours(folder: Path) -> None:
    shown = subprocess.run(module_command(WORKER_MODULE, "--help"), capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert f"usage: python -m {WORKER_MODULE}" in shown.stdout


def test_every_module_that_we_start_is_ours(folder: Path) -> None:
    """`-m` looks a module up as find_spec does. The demo's folder is on the path, as `coreset demo` puts it there."""
    modules = [SERVICE_MODULE, WORKER_MODULE, LOCAL_MODULE, UNLEARNING_MODULE, "demo", "redis", "httpx"]
    code = f"from importlib.util import find_spec\nfor name in {modules}: print(find_spec(name).origin)"
    flags = module_command("any")[1:-2]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    listed = subprocess.run([sys.executable, *flags, "-c", code], env=environment, capture_output=True, text=True)
    origins = listed.stdout.splitlines()
    assert len(origins) == len(modules), listed.stderr
    assert [origin for origin in origins if Path(origin).parent == folder] == []


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
