"""Issue 18, point 20: jobs are distinguishable by name, labels, kind, pool, size and target everywhere."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from coreset.cli.tables import show_job, show_jobs
from coreset.queue.job_store import JobStore, new_job_id
from coreset.schemas.manifest import Manifest
from coreset.schemas.summary import Summary
from coreset.spec.job import JobSpec
from coreset.storage.storage import Storage
from coreset_service.api_docs import examples
from coreset_workers.outputs.report import write_report
from tests.service.conftest import SPEC, api, app

__all__ = ["api", "app"]

NAMED: dict[str, Any] = {
    **SPEC,
    "name": "CC3M by V",
    "labels": {"project": "cc3m", "team/owner": "ada: x"},
    "target": {"pool": {"shards": ["/held/validation.tar", "/held/more.tar"]}},
    "select": {"k": 3000},
}
FACTS = ["CC3M by V", "select", "/pool/{000000..000005}.tar", "k = 3,000", "/held/validation.tar and 1 more"]
LABELS = "project:cc3m, team/owner:ada: x"


def test_list_status_and_pages_show_what_tells_jobs_apart(
    api: TestClient, store: JobStore, capsys: pytest.CaptureFixture[str]
) -> None:
    job = store.create(JobSpec.model_validate(NAMED), new_job_id())
    show_job(job)
    page = api.get(f"/jobs/{job.id}").text
    for shown in (capsys.readouterr().out, page):
        assert all(fact in shown for fact in [*FACTS, LABELS])
    brief = "CC3M by V · select · pool pool/{000000..000005}.tar · k = 3,000 · target held/validation.tar and 1 more"
    show_jobs([job])
    assert f"{brief} · {LABELS}" in capsys.readouterr().out
    assert f"{brief} · {LABELS}" in api.get("/").text


def test_the_report_shows_them_with_the_rule(storage: Storage) -> None:
    manifest = Manifest.model_validate(examples.MANIFEST)
    manifest = manifest.model_copy(update={"spec": JobSpec.model_validate(NAMED)})
    write_report(storage, manifest, Summary.model_validate(examples.SUMMARY))
    report = storage.read(f"jobs/{manifest.job_id}/report.html").decode()
    assert all(f"<dd>{fact}</dd>" in report for fact in [*FACTS, LABELS])
    assert '<p id="rule">Rule: ' in report


def test_the_list_is_filtered_by_label_and_pages_go_on_with_it(api: TestClient) -> None:
    for project in ("a", "b", "a", "a"):
        assert api.post("/v1/jobs", json={**SPEC, "labels": {"project": project}}).status_code == 202
    api.post("/v1/jobs", json=SPEC)
    query = {"label": "project:a", "page_size": 2}
    first = api.get("/v1/jobs", params=query).json()
    second = api.get("/v1/jobs", params={**query, "page_token": first["next_page_token"]}).json()
    assert [len(page["jobs"]) for page in (first, second)] == [2, 1]
    assert {job["spec"]["labels"]["project"] for page in (first, second) for job in page["jobs"]} == {"a"}
    assert second["next_page_token"] is None
    assert api.get("/v1/jobs", params={"label": "project:c"}).json()["jobs"] == []
    other = api.get("/v1/jobs", params={"label": "project:b", "page_token": first["next_page_token"]})
    assert other.status_code == 422
    wrong = api.get("/v1/jobs", params={"label": "project"})
    assert (wrong.status_code, "expected key:value" in wrong.json()["detail"]) == (422, True)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "a\nb"},
        {"name": "x" * 201},
        {"labels": {"a key": "v"}},
        {"labels": {"a": "v" * 201}},
        {"labels": {"a": "\x00"}},
        {"labels": {f"k{i}": "v" for i in range(33)}},
    ],
    ids=lambda fields: str(fields)[:30],
)
def test_names_and_labels_are_bounded(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JobSpec.model_validate({**SPEC, **fields})
