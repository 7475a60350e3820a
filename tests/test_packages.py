"""The three distributions: what each installs, that their versions agree, and that a client needs little."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from coreset import __version__

ROOT = Path(__file__).parents[1]
PROJECTS = {"coreset": ROOT, "coreset-service": ROOT / "service", "coreset-workers": ROOT / "workers"}
TOP_LEVEL = {
    "coreset": {"coreset", "diffin"},
    "coreset-service": {"coreset_service"},
    "coreset-workers": {"coreset_workers"},
}
CLIENT_MODULES = ["coreset", "coreset.client", "coreset.cli", "coreset.__main__", "coreset.schemas.part"]
CLIENT_COMMANDS = ["submit", "status", "check", "result", "report", "events", "select", "evaluate", "key", "version"]
LARGEST_CLIENT_MB = 40

# Runs first in an interpreter of its own; argv[1] lists the modules that it then lacks.
BLOCKING = """
import importlib.abc, json, sys

absent = set(json.loads(sys.argv[1]))


class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Blocker())
"""


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


def client_libraries() -> set[str]:
    """Return the top-level modules of the client's dependencies, and of those that these need themselves."""
    waiting, libraries = [Requirement(line) for line in project(ROOT)["dependencies"]], set[str]()
    while waiting:
        name = canonicalize_name(waiting.pop().name)
        if name not in libraries:
            libraries.add(name)
            needed = [Requirement(line) for line in distribution(name).requires or []]
            waiting += [each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return {
        module
        for module, names in packages_distributions().items()
        if libraries & {canonicalize_name(name) for name in names}
    }


def without_extras(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter that lacks every installed module that the client's dependencies do not bring."""
    absent = sorted(set(packages_distributions()) - client_libraries() - {"coreset"})
    command = [sys.executable, "-c", BLOCKING + code, json.dumps(absent)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_versions_of_the_distributions_agree() -> None:
    for name in ("coreset-service", "coreset-workers"):
        reported = project(PROJECTS[name])
        assert reported["version"] == __version__
        assert f"coreset[engine]=={__version__}" in reported["dependencies"]


def test_what_the_client_depends_on_is_small() -> None:
    libraries = client_libraries()
    assert {"httpx", "pydantic", "rich", "typer"} <= libraries
    heavy = {
        "torch",
        "fastapi",
        "numpy",
        "pyarrow",
        "duckdb",
        "redis",
        "rq",
        "fsspec",
        "structlog",
        "pydantic_settings",
    }
    assert not heavy & libraries


def test_the_client_and_its_commands_work_without_any_extra() -> None:
    imports = "\n".join(f"import {module}" for module in CLIENT_MODULES)
    commands = f"""
from typer.testing import CliRunner

from coreset import AsyncClient, Client
from coreset.cli import app

Client("http://127.0.0.1:9")
for command in [[], *([name] for name in {CLIENT_COMMANDS!r})]:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0, (command, result.output)
"""
    done = without_extras(imports + commands)
    assert done.returncode == 0, done.stderr


def test_what_needs_an_extra_names_it(tmp_path: Path) -> None:
    (tmp_path / "uids.npy").write_bytes(b"")
    code = f"""
from pathlib import Path

from coreset import Client
from coreset.__main__ import stack_settings
from coreset.cli import app
from coreset.cli.up import UpContext
from coreset.errors import InvalidInput
from coreset.uids import read_uids
from typer.testing import CliRunner

calls = [
    lambda: Client("http://127.0.0.1:9").scores("j1"),
    lambda: read_uids(Path({str(tmp_path / "uids.npy")!r})),
]
for call in calls:
    try:
        call()
    except InvalidInput as error:
        print(error)
result = CliRunner().invoke(app, ["up"], obj=UpContext(settings=stack_settings))
print(result.exit_code, result.stderr)
"""
    done = without_extras(code)
    assert done.returncode == 0, done.stderr
    scores, uids, up = done.stdout.splitlines()[:3]
    assert "Client.scores needs pyarrow" in scores
    assert "uids.npy needs numpy" in uids
    assert scores.endswith("pip install 'coreset[scores]'")
    assert uids.endswith("pip install 'coreset[scores]'")
    assert up.startswith("2 error: coreset up needs ")
    assert up.endswith("pip install 'coreset[engine]'")


@pytest.mark.slow
def test_wheels_hold_nothing_generic_and_a_client_installs_alone(tmp_path: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    run = {"check": True, "capture_output": True, "text": True}
    wheels: dict[str, Path] = {}
    for name, folder in PROJECTS.items():
        out = tmp_path / name
        subprocess.run([uv, "build", "--out-dir", out, folder], **run)  # by way of an sdist: leaves no build/ behind
        (wheels[name],) = out.glob("*.whl")
    for name, wheel in wheels.items():
        members = zipfile.ZipFile(wheel).namelist()
        assert any(member.endswith("licenses/LICENSE") for member in members), name
        modules = {member.partition("/")[0] for member in members}
        modules = {module for module in modules if not module.endswith(".dist-info")}
        assert modules == TOP_LEVEL[name]
        assert {f"{module}/py.typed" for module in modules} <= set(members)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([uv, "venv", "--python", sys.executable, tmp_path / "venv"], **run)
    subprocess.run([uv, "pip", "install", "--python", python, "-c", ROOT / "constraints.txt", wheels["coreset"]], **run)
    environment = {"PATH": os.environ["PATH"]}  # no PYTHONPATH
    subprocess.run([python, "-c", "from coreset import AsyncClient, Client"], env=environment, cwd=tmp_path, **run)
    for command in CLIENT_COMMANDS:
        subprocess.run([python.with_name("coreset"), command, "--help"], env=environment, cwd=tmp_path, **run)
    installed = sum(file.stat().st_size for file in (tmp_path / "venv" / "lib").rglob("*") if file.is_file())
    assert installed < LARGEST_CLIENT_MB * 1e6
