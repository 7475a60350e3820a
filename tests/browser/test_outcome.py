"""What a person does with a finished or a running job on its page: read the outcome, save a selection, cancel."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from coreset.client import Client
from coreset.local.stack import LocalStack
from coreset.schemas.job import JobStatus
from coreset.spec.rule_words import describe_rule

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def job(stack: LocalStack, tiny_pool: Path, tiny_run: Path) -> str:
    """Id of a job that has selected 40 samples of the tiny pool."""
    spec = {
        "pool": {"shards": [str(tiny_pool / "{000000..000005}.tar")]},
        "checkpoints": {"run": str(tiny_run)},
        "reference": {"size": 24},
        "select": {"k": 40},
    }
    with Client(stack.url) as client:
        job = client.wait(client.submit(spec).id, timeout=200)
        assert job.status is JobStatus.SUCCEEDED
    return job.id


@pytest.fixture
def opened(page: Page, stack: LocalStack, job: str) -> Page:
    page.goto(f"{stack.url}/jobs/{job}")
    page.wait_for_selector("#result[data-state=shown]")
    return page


def test_the_first_screen_says_what_came_out(opened: Page, said: list[str], stack: LocalStack, job: str) -> None:
    with Client(stack.url) as client:
        manifest = client.result(job)
    outcome = opened.locator("#outcome")
    expect(outcome.locator(".headline")).to_contain_text(f"Kept 40 of {manifest.read} samples")
    expect(outcome).to_contain_text(f"{sum(manifest.bad.values())} bad, without scores (")
    expect(outcome).to_contain_text(describe_rule(manifest.selection.spec))
    box = outcome.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 900, "all of it is on the first screen"
    with opened.expect_download() as download:
        outcome.get_by_role("link", name="subset.npy").click()
    assert download.value.suggested_filename == "subset.npy"
    assert said == []


@pytest.mark.parametrize(("ranking", "k"), [("selection", 43), ("clip_score", 50)])
def test_a_k_and_a_ranking_are_saved_as_a_selection(
    opened: Page, said: list[str], stack: LocalStack, job: str, ranking: str, k: int
) -> None:
    opened.locator("#ranking").select_option(ranking)
    opened.locator("#k-exact").fill(str(k))
    opened.get_by_role("button", name="Save this k and ranking").click()
    expect(opened.locator("#saved")).to_contain_text(f"Saved {k} samples as")
    row = opened.locator(opened.locator("#saved a").get_attribute("href") or "")
    expect(row).to_contain_text("CLIP score")
    with Client(stack.url) as client:
        saved = {each.id: each for each in client.selections(job)}[(row.get_attribute("id") or "")[len("selection-") :]]
        own = client.result(job).selection.spec
    assert saved.k == k
    assert (saved.spec.rule == own.rule) is (ranking == "selection")
    with opened.expect_download() as download:
        row.get_by_role("link", name="subset.parquet").click()
    assert download.value.suggested_filename == "subset.parquet"
    assert said == []


def test_samples_are_searched_and_groups_show_their_kept_counts(opened: Page, said: list[str]) -> None:
    opened.wait_for_selector("#found .tile")
    caption = opened.locator("#found .caption").first.text_content() or ""
    word = max(caption.split(), key=len)
    opened.locator("#search").fill(word.upper())
    opened.locator("#search").press("Enter")
    expect(opened.locator("#found .tile").first).to_contain_text(word)
    opened.locator("#search").fill("no caption says this")
    opened.locator("#search").press("Enter")
    expect(opened.locator("#found")).to_contain_text("No samples here.")
    table = opened.get_by_role("group", name="Kept by group")
    for field in ("cluster", "shard"):
        opened.locator("#field").select_option(field)
        expect(table.locator("caption")).to_contain_text(f"Groups by {field}")
        kept = table.locator("tbody td:nth-child(3)").all_text_contents()
        assert sum(map(int, kept)) == 40
    assert said == []


def test_a_job_is_cancelled_from_its_page(
    page: Page, said: list[str], stack: LocalStack, tiny_pool: Path, tiny_run: Path
) -> None:
    page.goto(f"{stack.url}/new")
    page.get_by_label("Shards of the pool").fill(str(tiny_pool / "{000000..000005}.tar"))
    page.get_by_label("Training run").fill(str(tiny_run))
    page.get_by_label("Further fields").fill(json.dumps({"reference": {"size": 25}, "seed": 5}))
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url(re.compile(r"/jobs/j\w+"))
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.get_by_role("status").filter(has_text="cancelled")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel the job")).to_be_hidden()
    assert said == []


def test_the_form_asks_for_target_suspects_and_evaluation(page: Page, stack: LocalStack, tiny_pool: Path) -> None:
    page.goto(f"{stack.url}/new")
    page.get_by_label("Shards of the pool").fill("/pool.tar")
    page.get_by_label("Training run").fill("/run")
    page.get_by_label("Validation target").fill("/target.tar\n")
    page.get_by_label("Evaluate on").fill("/test.tar")
    page.get_by_label("suspects, and the pool without them").check()
    expect(page.get_by_label("Keep", exact=True)).to_be_hidden()
    page.get_by_label("Suspects", exact=True).fill("20")
    with page.expect_request("**/v1/jobs?validate_only=true") as request:
        page.get_by_role("button", name="Check it first").click()
    assert request.value.post_data_json == {
        "pool": {"shards": ["/pool.tar"]},
        "checkpoints": {"run": "/run"},
        "target": {"pool": {"shards": ["/target.tar"]}},
        "evaluate": {"test": {"shards": ["/test.tar"]}},
        "clean": {"fraction": 0.2},
    }
    expect(page.get_by_role("alert")).to_be_visible()
