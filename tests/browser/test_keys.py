"""The page of a service with API keys: in with a key, a job from the form to its result, and out again."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from coreset.access.api_keys import new_key
from coreset.local.stack import LocalStack
from tests.browser.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

KEY, _ENTRY = new_key("ada", ["read", "submit"])
READER, _READ_ENTRY = new_key("bob", ["read"])


@pytest.fixture(scope="module")
def guarded(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A service with two keys, and one worker."""
    keys = {"CORESET_API_KEYS": f"{_ENTRY.line};{_READ_ENTRY.line}"}
    environment = {**os.environ, **keys, "PYTHONPATH": str(ROOT), "CORESET_LOADER_PROCESSES": "0"}
    with LocalStack(tmp_path_factory.mktemp("guarded"), environment, port=0, workers=1) as stack:
        stack.wait_for_workers()
        yield stack


def log_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Log in").click()


def fill(page: Page, pool: Path, run: Path) -> None:
    page.get_by_label("Shards of the pool").fill(str(pool / "{000000..000005}.tar"))
    page.get_by_label("Training run").fill(str(run))
    page.get_by_label("Further fields").fill(json.dumps({"reference": {"size": 24}}))


def test_in_with_a_key_through_a_whole_job_and_out_again(
    page: Page, said: list[str], guarded: LocalStack, tiny_pool: Path, tiny_run: Path
) -> None:
    page.goto(f"{guarded.url}/new")
    expect(page).to_have_url(f"{guarded.url}/login?next=/new")
    log_in(page, KEY)
    expect(page).to_have_url(f"{guarded.url}/new")
    fill(page, tiny_pool, tiny_run)
    page.get_by_role("button", name="Check it first").click()
    expect(page.get_by_text("This job can start.")).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url(re.compile(r"/jobs/j\w+"))
    job = page.url
    expect(page.locator("progress")).to_have_attribute("value", re.compile(r"0\.\d*[1-9]"))
    expect(page.locator("#result")).to_have_attribute("data-state", "shown", timeout=90_000)
    page.locator("#k").press("PageUp")
    page.wait_for_selector("#entering + .sheet img")
    page.get_by_role("link", name="Report").click()
    expect(page.locator("figure[data-score=clip_score]")).to_be_visible()
    page.goto(job)
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{guarded.url}/login")
    assert page.context.cookies() == []
    page.goto(job)
    expect(page.get_by_label("API key")).to_be_visible()
    assert said == []


def test_a_wrong_key_is_told_and_a_reader_cannot_start_a_job(
    page: Page, guarded: LocalStack, tiny_pool: Path, tiny_run: Path
) -> None:
    page.goto(f"{guarded.url}/new")
    log_in(page, "guess")
    expect(page.get_by_role("alert")).to_have_text("This key is not valid.")
    log_in(page, READER)
    fill(page, tiny_pool, tiny_run)
    page.get_by_role("button", name="Start the job").click()
    expect(page.get_by_role("alert")).to_contain_text("no scope `submit`")


def test_who_loses_the_key_meanwhile_is_led_to_the_login(page: Page, guarded: LocalStack) -> None:
    page.goto(guarded.url)
    log_in(page, KEY)
    expect(page.get_by_role("heading", name="Coreset jobs")).to_be_visible()
    page.context.clear_cookies()
    expect(page.get_by_label("API key")).to_be_visible()
