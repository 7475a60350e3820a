"""The page as a person uses it: a job submitted by the form, watched, looked at, in a real browser."""

import io
import json
import re
import tarfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from coreset.client import Client
from coreset.local.stack import LocalStack
from coreset.schemas.job import JobStatus
from demo.pool import write_sound_shard
from tests.conftest import TINY_MODEL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

HOSTILE = '<img src=x onerror="alert(1)"></script><script>alert(2)</script>{{7*7}}'


@pytest.fixture(scope="session")
def hostile_pool(tiny_pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pool, all of whose captions are markup."""
    folder = tmp_path_factory.mktemp("hostile")
    for path in sorted(tiny_pool.glob("*.tar")):
        with tarfile.open(path) as source, tarfile.open(folder / path.name, "w") as target:
            for member in source:
                data = source.extractfile(member).read()  # pyright: ignore[reportOptionalMemberAccess]
                if member.name.endswith(".txt") and data.strip():
                    data = HOSTILE.encode() + data
                    member.size = len(data)
                target.addfile(member, io.BytesIO(data))
    return folder


@pytest.fixture(scope="module")
def address(stack: LocalStack, hostile_pool: Path, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the page of a job over the hostile pool that has succeeded, and has measured what two scores are worth."""
    held_out = tmp_path_factory.mktemp("held_out") / "test.tar"
    write_sound_shard(held_out, 20, seed=7)
    with Client(stack.url) as client:
        spec = {
            "pool": {"shards": [str(hostile_pool / "{000000..000005}.tar")]},
            "checkpoints": {"run": str(tiny_run)},
            "reference": {"size": 24},
            "scores": ["diffin", "diffin_eq9", "tracin", "clip_score", "neg_clip_loss", "loss", "random"],
            "select": {"k": 40},
            "evaluate": {
                "test": {"shards": [str(held_out)]},
                "selections": {"clip_score": {"by": "clip_score"}, "neg_clip_loss": {"by": "neg_clip_loss"}},
                "fractions": [0.3, 0.6],
                "seeds": 2,
                "samples_seen": 64,
                "batch_size": 16,
                "model": {"config": TINY_MODEL},
            },
        }
        job = client.wait(client.submit(spec).id, timeout=200)
        assert job.status is JobStatus.SUCCEEDED
    return f"{stack.url}/jobs/{job.id}"


def test_the_worth_of_the_selections_is_drawn_on_the_page_and_in_the_report(
    page: Page, said: list[str], address: str
) -> None:
    for where in (address, address.replace("/jobs/", "/v1/jobs/") + "/report"):
        page.goto(where)
        figures = page.locator("#evaluation figure")
        expect(figures).to_have_count(2)
        expect(figures.first.locator("circle")).to_have_count(2 * 2)
        expect(figures.nth(1).locator("circle")).to_have_count(2 + 1)
        page.get_by_label("Kept:").select_option("60 %")
        rows = page.get_by_role("group", name="Evaluation").locator("tbody tr")
        expect(rows.filter(has_text="neg_clip_loss")).to_contain_text("60 %")
        expect(rows.filter(has_text="neg_clip_loss")).to_contain_text("±")
        expect(rows).to_have_count(3)
    assert said == []


def shown(page: Page, address: str) -> Page:
    page.goto(address)
    page.wait_for_selector("#result[data-state=shown] [data-milliseconds][aria-busy=false]")
    return page


def test_a_job_is_checked_submitted_watched_and_looked_at(
    page: Page, said: list[str], stack: LocalStack, tiny_pool: Path, tiny_run: Path
) -> None:
    page.goto(stack.url)
    page.get_by_role("link", name="New job").first.click()
    page.get_by_label("Shards of the pool").fill(str(tiny_pool / "{000000..000005}.tar"))
    page.get_by_label("Training run").fill(str(tiny_run))
    page.get_by_label("Further fields").fill(json.dumps({"reference": {"size": 24}}))
    page.get_by_role("button", name="Check it first").click()
    expect(page.get_by_text("This job can start.")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("cell", name="epoch_2.pt")).to_be_visible()
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url(re.compile(r"/jobs/j\w+"))
    expect(page.locator("progress")).to_have_attribute("value", re.compile(r"0\.\d*[1-9]"))
    expect(page.locator("#result")).to_have_attribute("data-state", "shown", timeout=90_000)
    page.locator("#reason").select_option("no_image")
    expect(page.get_by_role("row").filter(has_text=".tar")).to_have_count(1)
    assert said == []


def test_the_slider_moves_cuts_overlaps_and_samples_by_the_keyboard(page: Page, said: list[str], address: str) -> None:
    shown(page, address)
    share, exact = page.locator("#k-share"), page.get_by_label("Keep", exact=True).first
    expect(exact).to_have_value("40")
    line = page.locator("figure[data-score=diffin] line.cut")
    before, overlap = line.get_attribute("x1"), page.locator(".matrix td").nth(2).text_content()
    expect(page.locator("#entering")).to_have_text("Enter: 0")
    page.locator("#k").focus()
    page.keyboard.press("End")
    expect(share).to_contain_text("100.0 %")
    page.wait_for_selector("[data-milliseconds][aria-busy=false]")
    expect(page.locator("#entering")).to_contain_text("the 12 next to the cut")
    assert line.get_attribute("x1") != before
    assert page.locator(".matrix td").nth(2).text_content() == "100" != overlap
    page.get_by_role("button", name="Back to the job").click()
    expect(exact).to_have_value("40")
    page.locator("#ranking").select_option("clip_score")
    expect(page.locator("#leaving")).not_to_have_text("Leave: 0")
    assert said == []


def test_any_k_can_be_typed_and_is_answered_exactly(page: Page, said: list[str], address: str) -> None:
    """Pools of the tests are small, so each step of the slider is one k or two; 43 is no step of it."""
    shown(page, address)
    steps = page.evaluate(f"fetch('{address.replace('/jobs/', '/v1/jobs/')}/summary').then((a) => a.json())")["ks"]
    k = next(k for k in range(41, 180) if k not in steps)
    page.locator("#k-exact").fill(str(k))
    page.wait_for_selector(f"[data-k='{k}'][aria-busy=false]")
    expect(page.locator("#entering")).to_contain_text(f"Enter: {k - 40}")
    found = page.evaluate(f"fetch('{address.replace('/jobs/', '/v1/jobs/')}/changes?k={k}').then((a) => a.json())")
    shared = page.locator(".matrix tbody tr").first.locator("td").nth(1)
    expect(shared).to_have_text(f"{100 * found['overlaps'][0] / k:.1f}")
    page.locator("#k-exact").fill("0")
    page.keyboard.press("Tab")
    expect(page.locator(f"[data-k='{k}']")).to_be_attached()
    assert said == []


def test_all_controls_are_reached_by_the_tab_key_in_order(page: Page, address: str) -> None:
    shown(page, address)
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    wanted = ["skip", "k-exact", "k", "density"]
    assert [name for name in reached if name in wanted] == wanted, reached
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_a_sample_is_opened_and_closed_by_the_keyboard_and_its_uid_is_copied(
    page: Page, said: list[str], address: str
) -> None:
    shown(page, address)
    tile = page.locator("fieldset + div .tile").first
    tile.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("Diff-In by checkpoint")).to_be_visible()
    assert dialog.locator("circle").count() == 3 * 2, "three estimators at two checkpoints"
    dialog.get_by_role("button", name="Copy uid").click()
    uid = dialog.locator("dd").first.text_content() or ""
    assert page.evaluate("navigator.clipboard.readText()") == re.sub(r"Cop.*", "", uid)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert page.evaluate("document.activeElement.className") == "tile"
    assert said == []


def test_captions_are_text_on_the_page_and_in_the_report(page: Page, said: list[str], address: str) -> None:
    report = address.replace("/jobs/", "/v1/jobs/") + "/report"
    for where in (address, report):
        page.goto(where)
        tile = page.locator("fieldset + div .tile").first
        expect(tile.locator(".caption")).to_contain_text(HOSTILE)
        tile.click()
        expect(page.get_by_role("dialog").locator(".whole")).to_contain_text(HOSTILE)
    assert page.locator("img[src=x]").count() == 0
    assert said == [], "neither an alert nor a refused script"


def test_the_report_shows_charts_and_pictures_without_a_network(page: Page, said: list[str], address: str) -> None:
    page.goto(address)
    page.wait_for_selector("#result[data-state=shown]")
    uri = page.locator("dt:has-text('report.html') + dd").text_content() or ""
    page.context.set_offline(True)
    page.goto(Path(uri.removesuffix("Copy")).as_uri())
    expect(page.locator("figure[data-score=clip_score] .bar").first).to_be_visible()
    page.locator("#k").focus()
    page.keyboard.press("Home")
    expect(page.locator("#k-exact")).to_have_value("2")
    expect(page.locator("#k")).to_have_attribute("aria-valuetext", re.compile("^2 of "))
    first = page.locator("img.thumbnail").first
    assert first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 1
    assert said == []


def test_suspects_come_first_on_the_page_and_in_the_report_with_their_reasons(
    page: Page, said: list[str], stack: LocalStack, hostile_pool: Path, tiny_run: Path, address: str
) -> None:
    page.goto(f"{stack.url}/new")
    page.get_by_label("Shards of the pool").fill(str(hostile_pool / "{000000..000005}.tar"))
    page.get_by_label("Training run").fill(str(tiny_run))
    further = {"reference": {"size": 24}, "clean": {"fraction": 0.2, "by": {"clip_score": 1, "diffin": -1}}}
    page.get_by_label("Further fields").fill(json.dumps(further))
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url(re.compile(r"/jobs/j\w+"))
    expect(page.locator("#result")).to_have_attribute("data-state", "shown", timeout=90_000)
    for where in (page.url, page.url.replace("/jobs/", "/v1/jobs/") + "/report"):
        page.goto(where)
        first = page.locator("#result > section").first
        expect(first.locator("input:checked + *, label:has(input:checked)").first).to_contain_text("Suspects")
        tiles = first.locator(".tile")
        expect(tiles.first.locator(".number")).to_contain_text(re.compile("CLIP score: lowest .* %, Diff-In: highest"))
        expect(tiles.first.locator(".caption")).to_contain_text(HOSTILE)
        assert first.locator("li.kept").count() == 0 < tiles.count()
    assert said == []


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_screen(page: Page, address: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    shown(page, address)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast(page: Page, address: str, scheme: str) -> None:
    """4.5:1 at least, WCAG's AA, for every text of the page against the ground behind it."""
    page.emulate_media(color_scheme=scheme)
    shown(page, address)
    assert page.evaluate(CONTRASTS) == []


CONTRASTS = """() => {
  const rgb = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => ((v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const style = getComputedStyle(node).backgroundColor;
      if (style.startsWith("rgb") && rgb(style)[3] === 1) return rgb(style);
    }
    return [255, 255, 255, 1];
  };
  const poor = [];
  for (const node of document.querySelectorAll("p, span, h1, h2, h3, a, button, dt, dd, th, td, label, svg text")) {
    const style = getComputedStyle(node);
    if (!node.textContent.trim() || !node.getClientRects().length || node.closest(".matrix tbody")) continue;
    const [one, other] = [light(rgb(node instanceof SVGElement ? style.fill : style.color)), light(behind(node))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) poor.push(`${node.tagName} ${node.className} ${ratio.toFixed(2)} ${node.textContent.slice(0, 9)}`);
  }
  return poor;
}"""
