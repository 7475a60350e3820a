"""The end of a job: the manifest that names every file, and the report, one page without outside parts."""

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from coreset.errors import PoolUnusable
from coreset.schemas.job import Job, JobStatus
from coreset.schemas.manifest import File, Manifest, ShardSummary
from coreset.schemas.plan import Plan
from coreset.schemas.summary import Summary
from coreset.spec.job import JobSpec
from coreset.spec.scores import ESTIMATORS
from coreset.storage.layout import load_manifest
from coreset.storage.storage import Storage
from coreset.storage.verified import load_json
from coreset_workers.outputs.report import LABELS
from coreset_workers.stages.finish import finish_job
from coreset_workers.stages.merge import Counts, merge_counts

LARGEST_REPORT = 5 * 2**20


@pytest.fixture(scope="module")
def counts(plan: Plan, summaries: list[ShardSummary]) -> Counts:
    return merge_counts([Counts.of(shard, summary) for shard, summary in zip(plan.shards, summaries, strict=True)])


def job_of(spec: JobSpec, job_id: str, **select: object) -> Job:
    spec = spec.model_copy(update={"select": spec.select.model_copy(update=select)})
    return Job(
        id=job_id, status=JobStatus.REDUCING, spec=spec, created_at="2026-11-24T12:00:00Z", warnings=["of <planning>"]
    )


@pytest.fixture(scope="module")
def reported() -> list[tuple[str, float]]:
    return []


@pytest.fixture(scope="module")
def manifest(
    results: Storage, plan: Plan, scored_spec: JobSpec, counts: Counts, reported: list[tuple[str, float]]
) -> Manifest:
    job = job_of(scored_spec, "finished", write_shards=True)
    return finish_job(results, plan, job, counts, lambda stage, fraction: reported.append((stage, fraction)))


@pytest.fixture(scope="module")
def report(manifest: Manifest) -> str:
    return Path(manifest.report.uri).read_text()


def files_of(manifest: Manifest) -> list[File]:
    return [*manifest.parts, *manifest.selection.files.values(), manifest.report]


def test_the_manifest_names_every_file_with_its_size_and_sha256(manifest: Manifest) -> None:
    assert len(manifest.parts) == 6
    assert {"subset.npy", "subset.parquet", "shards/00000000.tar"} <= manifest.selection.files.keys()
    for file in files_of(manifest):
        content = Path(file.uri).read_bytes()
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest()), file.uri


def test_the_manifest_on_disk_is_the_one_returned(results: Storage, manifest: Manifest) -> None:
    assert load_manifest(results, "finished") == manifest


def test_the_manifest_says_what_was_counted_and_measured(manifest: Manifest, plan: Plan, counts: Counts) -> None:
    assert manifest.read == manifest.scored + sum(manifest.bad.values()) == 180
    assert manifest.expected is None, "nothing beside the shards announces a number"
    assert set(manifest.accuracy) == set(ESTIMATORS)
    assert all(found.spearman > 0.99 and found.samples == 32 for found in manifest.accuracy.values())
    assert len(set(manifest.reference_uids)) == plan.reference_size
    assert manifest.environment.device == "cpu"
    assert manifest.comparisons["clip_score"].overlap_clip_score == 1
    assert manifest.comparisons.keys() == {*plan.scores, "diffin+clip_score"}
    assert {"draw", "float32", "score", "finish"} <= manifest.seconds.keys()


def test_progress_only_goes_on(manifest: Manifest, reported: list[tuple[str, float]]) -> None:
    fractions = [fraction for _, fraction in reported]
    assert fractions == sorted(fractions)
    assert list(dict.fromkeys(stage for stage, _ in reported)) == [
        "selecting",
        "writing shards",
        "comparing the rankings",
        "writing the report",
    ]


class Outside(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.found += [str(values[name]) for name in ("src", "href", "srcset", "data", "action") if name in values]


def test_the_report_fetches_nothing(report: str) -> None:
    page = Outside()
    page.feed(report)
    assert page.found == []
    style = "".join(re.findall(r"<style>(.*?)</style>", report, re.DOTALL))
    assert "url(" not in style
    assert "@import" not in style


def test_the_reports_policy_allows_its_own_script_and_style_only(report: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', report)
    assert policy is not None
    script, style = re.search(r"<script>(.*?)</script>", report, re.S), re.search(r"<style>(.*?)</style>", report, re.S)
    for kind, found in (("script", script), ("style", style)):
        assert found is not None
        digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in html.unescape(policy[1])


def test_the_report_holds_the_summary(report: str, results: Storage, manifest: Manifest) -> None:
    inside = re.search(r'id="summary">(.*?)</script>', report, re.DOTALL)
    assert inside is not None
    summary = load_json(results, "jobs/finished/summary.json", Summary.model_validate_json)
    assert Summary.model_validate_json(inside[1]) == summary
    assert (summary.k, summary.rankable) == (40, manifest.selection.rankable)


def test_the_report_shows_the_manifests_numbers(report: str, manifest: Manifest) -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<script.*?</script>", "", report, flags=re.DOTALL)))
    rankable = manifest.selection.rankable
    assert f"40 of {rankable} samples kept" in text
    assert f"read 180 scored {manifest.scored}" in text
    for reason, count in manifest.bad.items():
        assert f"bad: {reason} {count}" in text
    for name, row in manifest.comparisons.items():
        assert f"{LABELS[name]} {100 * row.overlap_clip_score:.1f} %" in text
    for checkpoint in manifest.checkpoints:
        assert f"epoch_{checkpoint.epoch}.pt {checkpoint.step.value:.0f} {checkpoint.step.source}" in text
    assert f"{manifest.parameters_counted:,} of {manifest.parameters_total:,} parameters" in text
    assert manifest.plan_id in text


def test_the_report_escapes_what_comes_from_outside(report: str) -> None:
    assert "of &lt;planning&gt;" in report
    assert "of <planning>" not in report


def test_the_report_is_small(report: str) -> None:
    assert len(report.encode()) < LARGEST_REPORT


def test_a_failed_shard_fails_the_job_unless_it_may(
    results: Storage, plan: Plan, scored_spec: JobSpec, summaries: list[ShardSummary]
) -> None:
    found = [Counts.of(shard, summaries[shard.index] if shard.index else None) for shard in plan.shards]
    counts, job = merge_counts(found), job_of(scored_spec, "lacking")
    with pytest.raises(PoolUnusable, match=r"1 of 6 shards failed, 0 may .*000000\.tar\. The scores of the others"):
        finish_job(results, plan, job, counts, lambda stage, fraction: None)
    assert not results.exists("jobs/lacking/manifest.json")
    allowed = job.model_copy(update={"spec": job.spec.model_copy(update={"max_failed_shards": 1})})
    manifest = finish_job(results, plan, allowed, counts, lambda stage, fraction: None)
    assert manifest.failed_shards == [plan.shards[0].uri]
    assert len(manifest.parts) == 5
    assert "failed: <code>" in Path(manifest.report.uri).read_text()


def test_announced_samples_that_did_not_come_are_warned_of_ten_shards_at_most(
    results: Storage, plan: Plan, scored_spec: JobSpec, counts: Counts
) -> None:
    short = counts.model_copy(update={"short": {f"/pool/{i}.tar": i + 1 for i in range(12)}, "announced": 6})
    manifest = finish_job(results, plan, job_of(scored_spec, "short"), short, lambda stage, fraction: None)
    assert manifest.warnings[:2] == ["of <planning>", "/pool/0.tar: 1 announced samples did not come"]
    assert manifest.warnings[-1] == "and 2 more shards"
    assert len(manifest.warnings) == 12
    assert manifest.expected == counts.expected


def test_the_selections_own_file_names_the_shards_too(results: Storage, manifest: Manifest) -> None:
    saved = json.loads(results.read(f"jobs/finished/selections/{manifest.selection.id}/selection.json"))
    assert saved["files"].keys() == manifest.selection.files.keys()
