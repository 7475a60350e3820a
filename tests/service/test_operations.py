"""docs/operations.md names every setting, metric and alert, and none that is not there."""

import re
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from pydantic_settings import BaseSettings

from coreset.settings import ServiceSettings, Settings, StackSettings, WorkerSettings

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
COMMANDS = (ROOT / "coreset" / "cli" / "options.py").read_text()
COMPOSE = "".join(path.read_text() for path in ROOT.glob("docker-compose*.yml"))


def variables(text: str) -> set[str]:
    return set(re.findall(r"CORESET_[A-Z_]*[A-Z]", text))


def settings_of(kind: type[BaseSettings]) -> dict[str, object]:
    """Return the defaults by variable."""
    return {f"CORESET_{name.upper()}": field.default for name, field in kind.model_fields.items()}


def metric_names(api: TestClient) -> set[str]:
    """Return our families, counters with their suffix."""
    families = text_string_to_metric_families(api.get("/metrics").text)
    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    return {name for name in names if name.startswith("coreset_")}


def metrics_in(text: str) -> set[str]:
    """Return the metrics that an expression or a text names, series of histograms as the histogram."""
    text = re.sub(r"python (-P )?-m \w+", "", text)  # `coreset_workers` is a package too
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"coreset_[a-z_]*[a-z]", text)}


def test_every_setting_is_named_and_no_other() -> None:
    kinds = (Settings, ServiceSettings, WorkerSettings, StackSettings)
    known = set().union(*(settings_of(kind) for kind in kinds))
    assert variables(OPERATIONS) == known | variables(COMPOSE) | variables(COMMANDS)


@pytest.mark.parametrize("kind", [ServiceSettings, WorkerSettings])
def test_the_defaults_are_the_real_ones(kind: type[BaseSettings]) -> None:
    documented = dict(re.findall(r"^\| `(CORESET_\w+)` \| `?([^|`]*)`? \|", OPERATIONS, re.MULTILINE))
    for variable, default in settings_of(kind).items():
        assert documented[variable] == str(default), variable


def test_every_metric_is_named_and_no_other(api: TestClient) -> None:
    assert set(re.findall(r"^\| `(coreset_\w+)`", OPERATIONS, re.MULTILINE)) == metric_names(api)
    assert metrics_in(OPERATIONS) - {"coreset_http"} == metric_names(api)


def test_every_alert_is_in_the_runbook() -> None:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    assert set(re.findall(r"^\| `(Coreset\w+)`", OPERATIONS, re.MULTILINE)) == alerts


@pytest.mark.parametrize("name", ["alerts.yml", "grafana/coreset.json"])
def test_alerts_and_board_ask_for_metrics_that_there_are(api: TestClient, name: str) -> None:
    asked = metrics_in((MONITORING / name).read_text())
    assert asked <= metric_names(api)
    assert len(asked) > 5
