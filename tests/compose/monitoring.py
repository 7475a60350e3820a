"""`python tests/compose/monitoring.py URL`: Prometheus scrapes the service, and has data for each panel of the board.

For smoke.sh, after jobs have run. Every expression of the board must give values, and every alert must be evaluated
without an error. Only the metrics of GPUs may be missing.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

ROOT = Path(__file__).parents[2]
BOARD = ROOT / "deploy" / "monitoring" / "grafana" / "coreset.json"
SCRAPES = 3
SECONDS = 180
RATE_INTERVAL = "1m"
"""What Grafana puts in for $__rate_interval at a scrape every 15 s."""

ask = build_opener(ProxyHandler({})).open


def get(url: str, **query: str) -> Any:
    """Raises HTTPError: Prometheus cannot read the expression."""
    with ask(f"{url}?{urlencode(query)}", timeout=30) as answer:
        return json.load(answer)["data"]


def scraped(url: str) -> bool:
    """Whether there are enough scrapes to take a rate of, and every alert was evaluated."""
    found = get(f"{url}/api/v1/query", query='count_over_time(up{job="coreset"}[5m])')["result"]
    seen = [rule["health"] for rule in rules(url)]
    return bool(found) and float(found[0]["value"][1]) >= SCRAPES and "unknown" not in seen


def rules(url: str) -> list[dict[str, Any]]:
    return [rule for group in get(f"{url}/api/v1/rules")["groups"] for rule in group["rules"]]


def expressions() -> Iterator[str]:
    for panel in json.loads(BOARD.read_text())["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", RATE_INTERVAL)


def main(url: str) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            if scraped(url):
                break
        except OSError as error:
            print(error, file=sys.stderr)
        if time.monotonic() > deadline:
            sys.exit(f"Prometheus has not scraped the service {SCRAPES} times in {SECONDS} s")
        time.sleep(2)
    targets = get(f"{url}/api/v1/targets")["activeTargets"]
    if wrong := [target["lastError"] for target in targets if target["health"] != "up"]:
        sys.exit(f"Prometheus cannot scrape: {wrong}")
    alerts = rules(url)
    if wrong := [(rule["name"], rule.get("lastError")) for rule in alerts if rule["health"] != "ok"]:
        sys.exit(f"alerts that cannot be evaluated: {wrong}")
    asked = list(expressions())
    empty = [asks for asks in asked if not get(f"{url}/api/v1/query", query=asks)["result"]]
    if wrong := [asks for asks in empty if "coreset_gpu_memory_bytes" not in asks]:
        sys.exit(f"the board asks for what is not there: {wrong}")
    print(f"Prometheus has scraped the service; {len(alerts)} alerts, {len(asked) - len(empty)} of {len(asked)} curves")


if __name__ == "__main__":
    main(sys.argv[1])
