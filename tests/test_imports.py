"""What a module may pull in: the service and the contract hold no torch, and the numerics nothing but torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "open_clip", "webdataset"}
OURS = {"coreset", "coreset_service", "coreset_workers", "demo", "diffin"}
LIST_MODULES = "import sys, json; {imports}; print(json.dumps(sorted({{n.split('.')[0] for n in sys.modules}})))"


FOLDERS = {"coreset_service": ROOT / "service", "coreset_workers": ROOT / "workers"}


def modules_of(package: str) -> list[str]:
    folder = FOLDERS.get(package, ROOT)
    files = sorted((folder / package).rglob("*.py"))
    names = [".".join(file.relative_to(folder).with_suffix("").parts) for file in files]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


def loaded_by(package: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after importing the whole package."""
    code = LIST_MODULES.format(imports="; ".join(f"import {name}" for name in modules_of(package)))
    return set(json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)))


@pytest.mark.parametrize("package", ["coreset", "coreset_service"])
def test_the_contract_and_the_service_load_no_torch(package: str) -> None:
    assert loaded_by(package) & (HEAVY | {"coreset_workers", "diffin", "demo"}) == set()


def test_the_numerics_load_nothing_of_the_service_and_no_open_clip() -> None:
    loaded = loaded_by("diffin")
    assert "torch" in loaded
    assert loaded & (OURS | HEAVY | {"redis", "fastapi", "pydantic"}) == {"diffin", "torch"}
