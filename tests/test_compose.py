"""The compose file passes on what docs/operations.md says may be set."""

from pathlib import Path

import yaml

from coreset.settings import ServiceSettings, Settings, WorkerSettings

COMPOSE = yaml.safe_load((Path(__file__).parents[1] / "docker-compose.yml").read_text())["services"]
WITHIN = {"host", "port"}
"""Settings of the service's container that its published port stands for."""


def variables(settings: type[Settings]) -> set[str]:
    return {f"CORESET_{name.upper()}" for name in settings.model_fields if name not in WITHIN}


def test_every_setting_reaches_its_container() -> None:
    assert variables(ServiceSettings) <= set(COMPOSE["service"]["environment"])
    assert variables(WorkerSettings) <= set(COMPOSE["worker"]["environment"])


def test_no_other_setting_is_passed() -> None:
    passed = {name for service in ("service", "worker") for name in COMPOSE[service]["environment"]}
    known = variables(ServiceSettings) | variables(WorkerSettings)
    assert {name for name in passed - known if not name.startswith(("AWS_", "PYTHON"))} == set()


def test_the_file_of_keys_is_mounted_where_the_service_looks_for_it() -> None:
    inside = COMPOSE["service"]["environment"]["CORESET_API_KEYS_FILE"]
    assert f"${{CORESET_API_KEYS_FILE:-/dev/null}}:{inside}:ro" in COMPOSE["service"]["volumes"]
