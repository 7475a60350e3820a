"""The monitoring profile of the compose file: what one file names is what another one mounts, serves or provisions."""

import json
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "monitoring"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def mounted(service: str) -> dict[str, Path]:
    """Return the files of the repository that a container sees, by their path in it."""
    parts = [volume.split(":") for volume in COMPOSE[service]["volumes"]]
    return {inside: ROOT / outside for outside, inside, *_ in parts if outside.startswith("./")}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_all_that_is_mounted_is_there() -> None:
    for service in ("prometheus", "grafana"):
        files = mounted(service)
        assert len(files) >= 2
        assert all(path.is_file() for path in files.values()), service


def test_prometheus_scrapes_the_service_and_reads_the_alerts() -> None:
    config = read(FOLDER / "prometheus.yml")
    assert {f"/etc/prometheus/{name}" for name in config["rule_files"]} <= set(mounted("prometheus"))
    [scrape] = config["scrape_configs"]
    [found] = scrape["dns_sd_configs"]
    assert found["names"] == ["service"]
    assert str(COMPOSE["service"]["ports"][0]).endswith(f":{found['port']}")
    key = scrape["authorization"]["credentials_file"]
    assert f"${{CORESET_METRICS_KEY_FILE:-/dev/null}}:{key}:ro" in COMPOSE["prometheus"]["volumes"]
    [group] = read(FOLDER / "alerts.yml")["groups"]
    assert f'up{{job="{scrape["job_name"]}"}} == 0' in [rule["expr"] for rule in group["rules"]]


def test_grafana_finds_its_prometheus_and_its_board() -> None:
    [source] = read(FOLDER / "grafana" / "datasources.yml")["datasources"]
    assert source["url"] == f"http://prometheus:{COMPOSE['prometheus']['ports'][0].rsplit(':', 1)[-1]}"
    [provider] = read(FOLDER / "grafana" / "dashboards.yml")["providers"]
    boards = [path for inside, path in mounted("grafana").items() if inside.startswith(provider["options"]["path"])]
    board = json.loads(boards[0].read_text())
    for panel in board["panels"]:
        assert {panel["datasource"]["uid"], *(t["datasource"]["uid"] for t in panel["targets"])} == {source["uid"]}


def test_no_panel_covers_another() -> None:
    panels = json.loads((FOLDER / "grafana" / "coreset.json").read_text())["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24, "a board has 24 columns"
