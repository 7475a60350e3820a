"""The pages, the health addresses, the OpenAPI description, and what the service never imports."""

import html
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from coreset.queue.job_store import JobStore
from coreset.schemas.job import JobStatus, Reason
from coreset.storage.storage import Storage
from coreset_service.api_docs import examples

ROOT = Path(__file__).parents[3]
NONE = {"cpu": 0, "gpu": 0}
SPEC = {"pool": {"shards": ["/<b>.tar"]}, "checkpoints": {"run": "/r"}, "select": {"k": 1}}


def test_the_list_shows_jobs_and_links(api: TestClient, store: JobStore, succeeded: str) -> None:
    job = api.post("/v1/jobs", json=SPEC).json()["id"]
    store.transition(job, JobStatus.FAILED, Reason(code="x", message="<script>alert(1)</script>"))
    page = api.get("/").text
    assert f'href="/jobs/{job}"' in page
    assert f"/v1/jobs/{succeeded}/report" in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_the_job_page_escapes_the_spec(api: TestClient) -> None:
    job = api.post("/v1/jobs", json=SPEC).json()["id"]
    page = api.get(f"/jobs/{job}").text
    assert "/<b>.tar" not in page
    assert "/&lt;b&gt;.tar" in page


@pytest.mark.parametrize("address", ["/", "/new", "/jobs/{id}", "/docs", "/login"])
def test_pages_have_no_outside_parts_and_no_inline_script(api: TestClient, succeeded: str, address: str) -> None:
    answer = api.get(address.format(id=succeeded))
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", answer.text)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<style|<script>| style=| on[a-z]+=", answer.text)
    for file in re.findall(r"""(?:src|href)="(/static/[^"]+)""", answer.text):
        assert api.get(file).headers["content-type"].startswith(("text/javascript", "text/css")), file


def test_the_api_page_tells_every_address_model_field_and_example(app: FastAPI, api: TestClient) -> None:
    page, description = html.unescape(api.get("/docs").text), app.openapi()
    for path, operations in description["paths"].items():
        for method in operations:
            assert f"<code>{method.upper()} {path}</code>" in page
    for name, schema in description["components"]["schemas"].items():
        assert f'id="{name}"' in page
        for field in schema.get("properties", {}):
            assert f"<code>{field}</code>" in page
    for example in (examples.SPEC, examples.MANIFEST, examples.SUMMARY):
        assert json.dumps(example, indent=2) in page


def test_a_part_is_the_middle_alone(api: TestClient, succeeded: str) -> None:
    for address in ("/", f"/jobs/{succeeded}"):
        part = api.get(f"{address}?part=true").text
        assert "<html" not in part
        assert part in api.get(address).text


@pytest.mark.parametrize("name", ["..%2Fapp.py", "__init__.py", "page.css.map", "%2Fetc%2Fpasswd"])
def test_no_other_file_is_served(api: TestClient, name: str) -> None:
    assert api.get(f"/static/{name}").status_code == 404


def test_a_jobs_summary_is_served_for_ever(api: TestClient, storage: Storage, succeeded: str) -> None:
    old = api.get(f"/v1/jobs/{succeeded}/summary")
    assert (old.status_code, old.json()["type"]) == (404, "/problems/not-found")
    storage.write(f"jobs/{succeeded}/summary.json", b'{"k": 3}')
    found = api.get(f"/v1/jobs/{succeeded}/summary")
    assert found.json() == {"k": 3}
    assert "immutable" in found.headers["Cache-Control"]


def test_there_is_nothing_to_look_at_before_the_end(api: TestClient) -> None:
    job = api.post("/v1/jobs", json=SPEC).json()["id"]
    for address in ("summary", "changes?k=3"):
        assert api.get(f"/v1/jobs/{job}/{address}").status_code == 409


def test_health(api: TestClient) -> None:
    assert api.get("/healthz").json() == {"status": "ok"}
    assert api.get("/readyz").json() == {"status": "ok", "waiting": NONE, "running": NONE, "tasks": 0, "workers": 0}
    assert api.get("/version").json()["version"]


def test_every_body_in_the_description_has_an_example(api: TestClient) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            assert body is None or "examples" in body["schema"] or "examples" in body, (method, path)
            assert "4XX" in operation["responses"], (method, path)


def test_the_service_never_imports_torch() -> None:
    imports = "import sys, coreset_service.__main__, coreset.__main__"
    code = imports + "; print('torch' in sys.modules, 'fastapi' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["False", "True"]
