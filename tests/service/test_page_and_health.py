"""The pages, the health addresses, the OpenAPI description, and what the service never imports."""

import re
import subprocess
import sys
from pathlib import Path

from fastapi.testclient import TestClient

from coreset.job import JobStatus, Reason
from coreset.store import JobStore

ROOT = Path(__file__).parents[2]
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


def test_pages_have_no_outside_parts_and_a_strict_policy(api: TestClient) -> None:
    answer = api.get("/")
    assert not re.search(r"""(src|href)=["']?https?:""", answer.text)
    policy = answer.headers["Content-Security-Policy"]
    nonce = re.search(r"script-src 'nonce-([^']+)'", policy)
    assert nonce is not None
    assert answer.text.count(f'nonce="{nonce[1]}"') == 2
    part = api.get("/?part=true").text
    assert "<html" not in part


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
    code = "import sys, service.__main__, coreset.__main__; print('torch' in sys.modules, 'fastapi' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "True"]
