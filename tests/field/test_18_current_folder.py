"""Issue 18, point 18: files of the current folder do not run in the product's place; `up` notices a dead worker."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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


@pytest.mark.parametrize("module", [WORKER_MODULE, SERVICE_MODULE])
def test_a_process_started_by_hand_imports_no_library_of_the_folder(module: str, folder: Path, tmp_path: Path) -> None:
    """By hand, so without -P. The module itself is then looked up in the folder first: only PYTHONSAFEPATH helps."""
    ours = (f"{module}.py", "queue.py")  # runpy imports some modules of the standard library before ours
    for path in folder.iterdir():
        if path.name in ours:
            path.unlink()
    for name in ("coreset", "torch", "uvicorn", "structlog"):
        (folder / f"{name}.py").write_text("raise SystemExit(f'a file of the current folder ran: {__file__}')")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    environment |= {"CORESET_HOST": "203.0.113.1", "CORESET_STORAGE": str(tmp_path), "CORESET_LOG_LEVEL": "error"}
    command = [sys.executable, "-m", module, *(["--help"] if module == WORKER_MODULE else [])]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "a file of the current folder ran" not in shown.stderr
    assert ("usage: python -m" in shown.stdout) or ("without API keys" in shown.stderr), shown.stderr


def test_deployments_import_nothing_from_the_current_folder() -> None:
    assert "PYTHONSAFEPATH=1" in (ROOT / "Dockerfile").read_text()
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert [services[name]["environment"]["PYTHONSAFEPATH"] for name in ("service", "worker")] == ["1", "1"]
    config = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "config.yaml").read_text())
    assert config["data"]["PYTHONSAFEPATH"] == "1"
    for page in ("README.md", "docs/install.md", "docs/operations.md"):
        text = (ROOT / page).read_text()
        assert re.findall(r"python -m coreset_(?:workers|service)", text) == [], page


def test_the_service_of_a_stack_is_ours(folder: Path) -> None:
    with LocalStack(folder / "data", os.environ, port=0, workers=0) as stack:
        assert stack.children[0].ended is False


@pytest.mark.slow
def test_up_fails_with_the_log_of_a_worker_that_ends_at_once(tmp_path: Path) -> None:
    environment = {**os.environ, "CORESET_LOADER_PROCESSES": "many"}
    options = ["up", "--port", "0", "--workers", "1", "--data", str(tmp_path)]
    up = subprocess.run(module_command("coreset", *options), env=environment, capture_output=True, text=True)
    assert up.returncode == 3
    assert "coreset is up" not in up.stdout
    assert "worker-0 ended at its start" in up.stderr
    assert str(tmp_path / "logs" / "worker-0.log") in up.stderr
    assert "loader_processes" in up.stderr, "the log's last lines name the cause"
