"""`python -m benchmarks.page --cifar FOLDER --json OUT`: how fast the page and the report are, in headless Chromium.

FOLDER has CIFAR-10 as 20 shards of 1,000 pairs. A small CLIP is trained on them for two epochs, all default scores are
computed by the service on this machine, and a browser opens the job and moves its slider.
"""

import argparse
import io
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright
from rich.console import Console

from benchmarks.environment import environment
from coreset.client import Client
from coreset.local.stack import LocalStack
from coreset.schemas.job import JobStatus
from demo.train import Training, train

CHROMIUM = "/usr/bin/chromium"
MODEL = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}
SHARE = 0.3
LOADS, MOVES = 5, 20
QUALITY = 70
"""Of the pictures, in WebP."""


def trained(pool: Path, folder: Path) -> Path:
    """Return a run directory of open_clip's trainer."""
    config = folder / "model.json"
    config.write_text(json.dumps(MODEL))
    return train(pool, folder / "logs", Training(name="page", epochs=2, batch_size=128, model_config=config))


def scored(client: Client, pool: Path, run: Path) -> str:
    """Return the id of a job that has succeeded."""
    shards = sorted(str(path) for path in pool.glob("*.tar"))
    spec = {
        "pool": {"shards": shards},
        "checkpoints": {"run": str(run)},
        "reference": {"size": 128},
        "select": {"fraction": SHARE},
    }
    job = client.wait(client.submit(spec).id)
    if job.status is not JobStatus.SUCCEEDED:
        raise SystemExit(f"the job is {job.status}: {job.reason}")
    return job.id


def load_seconds(page: Page, address: str) -> float:
    """Open the job again, and return the seconds until its result is drawn and its samples are there."""
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector("#result[data-state=shown] [aria-busy=false] .sheet, #result [aria-busy=false] p")
    return page.evaluate("performance.now()") / 1000


def slider_milliseconds(page: Page, moves: int) -> list[float]:
    """Move the slider by its key, and return how long each move took until its samples were drawn."""
    slider = page.locator("#k")
    slider.focus()
    return [_milliseconds(page, partial(slider.press, "ArrowRight" if move % 4 else "PageUp")) for move in range(moves)]


def typed_milliseconds(page: Page, moves: int) -> list[float]:
    """Type numbers of samples that are no steps of the slider, and return how long each took until all was drawn."""
    field = page.locator("#k-exact")
    start = int(field.input_value())
    return [_milliseconds(page, partial(field.fill, str(start + 7 * move + 1))) for move in range(moves)]


def _milliseconds(page: Page, act: Callable[[], None]) -> float:
    before = page.locator("[data-milliseconds]").get_attribute("data-k")
    act()
    page.wait_for_function("k => document.querySelector('[data-milliseconds]').dataset.k !== k", arg=before)
    page.wait_for_selector("[data-milliseconds][aria-busy=false]")
    return float(page.locator("[data-milliseconds]").get_attribute("data-milliseconds") or "nan")


def measured(url: str, job_id: str, report: Path, shots: Path | None) -> dict[str, Any]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        address = f"{url}/jobs/{job_id}"
        loads = [load_seconds(page, address) for _ in range(LOADS)]
        moves = slider_milliseconds(page, MOVES)
        typed = typed_milliseconds(page, MOVES)
        if shots is not None:
            _photograph(page, address, report, shots)
        browser.close()
    return {
        "load_seconds": {"first": loads[0], "median_after": statistics.median(loads[1:])},
        "slider_milliseconds": {"median": statistics.median(moves), "most": max(moves), "moves": moves},
        "typed_milliseconds": {"median": statistics.median(typed), "most": max(typed), "moves": typed},
        "report_bytes": report.stat().st_size,
    }


def _photograph(page: Page, address: str, report: Path, shots: Path) -> None:
    """Write pictures for docs/: with the slider moved, on a telephone, of a sample, of the form, and of the report."""
    shots.mkdir(parents=True, exist_ok=True)
    load_seconds(page, address)
    page.locator("#k").press("PageUp")
    page.wait_for_selector("#entering + .sheet img")
    page.set_viewport_size({"width": 1280, "height": 1500})
    _save(page, shots / "page.webp")
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("#k").scroll_into_view_if_needed()
    _save(page, shots / "page-narrow.webp")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="dark")
    page.locator("fieldset + div .tile").first.click()
    _save(page, shots / "page-sample.webp")
    page.emulate_media(color_scheme="light")
    page.goto(address.split("/jobs/")[0] + "/new")
    _save(page, shots / "page-new.webp")
    page.goto(report.as_uri())
    page.locator("fieldset").scroll_into_view_if_needed()
    _save(page, shots / "report.webp")


def _save(page: Page, path: Path) -> None:
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(path, quality=QUALITY)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--cifar", type=Path, required=True, metavar="FOLDER", help="of the shards")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.add_argument("--run", type=Path, help="a run directory; else a small CLIP is trained, for two minutes")
    parser.add_argument("--data", type=Path, help="of a service that has scored before; else a new one")
    parser.add_argument("--shots", type=Path, metavar="FOLDER", help="where to put screenshots")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run = options.run or trained(options.cifar, Path(temporary))
        data = options.data or Path(temporary) / "data"
        with LocalStack(data, os.environ, port=0) as stack, Client(stack.url) as client:
            job_id = scored(client, options.cifar, run)
            manifest = client.result(job_id)
            assert manifest.report is not None
            found = measured(stack.url, job_id, Path(manifest.report.uri), options.shots)
    settings = {"samples": manifest.read, "scored": manifest.scored, "shards": len(manifest.parts), "moves": MOVES}
    seconds = {"finish": manifest.seconds["finish"]}
    result = {"environment": environment(), "settings": settings, **found, "seconds": seconds}
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    Console().print_json(data=found)


if __name__ == "__main__":
    main()
