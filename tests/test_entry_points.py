"""The names of modules that `coreset` starts without importing them resolve."""

from importlib import import_module
from importlib.util import find_spec

import pytest

from coreset import entry_points

MODULES = [value for name, value in vars(entry_points).items() if name.endswith("_MODULE")]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_that_is_started_by_name_is_there(module: str) -> None:
    assert find_spec(module) is not None
    if module != entry_points.TASKS_MODULE:
        assert find_spec(f"{module}.__main__") is not None


@pytest.mark.parametrize("name", ["prepare", "score", "merge", "finish", "trial", "conclude", "task_failed"])
def test_a_task_that_messages_name_is_a_function(name: str) -> None:
    assert callable(getattr(import_module(entry_points.TASKS_MODULE), name))


def test_the_task_of_a_preflight_is_a_function() -> None:
    module, _, name = entry_points.PREFLIGHT_TASK.rpartition(".")
    assert callable(getattr(import_module(module), name))
