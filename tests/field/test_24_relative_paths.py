"""Issue 18, point 24: a relative path over REST is rejected, not resolved in the workers' folder."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from coreset.queue.job_store import JobStore
from tests.service.conftest import SPEC, api, app

__all__ = ["api", "app"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"pool": {"shards": ["pool/{000000..000005}.tar"]}}, "pool/000000.tar"),
        ({"pool": {"shards": ["/pool/0.tar::more/1.tar"]}}, "more/1.tar"),
        ({"checkpoints": {"run": "logs/demo"}}, "logs/demo"),
        ({"checkpoints": {"files": ["/a.pt", "./b.pt"]}}, "./b.pt"),
        ({"target": {"pool": {"shards": "{a,b}.tar"}}}, "a.tar"),
        ({"evaluate": {"test": {"shards": "test.tar"}}}, "test.tar"),
        ({"clip_model": {"name": "ViT-B-32", "pretrained": "weights/clip.pt"}}, "weights/clip.pt"),
    ],
    ids=str,
)
@pytest.mark.parametrize("query", ["", "?validate_only=true"])
def test_a_relative_path_is_rejected_at_once(
    api: TestClient, store: JobStore, fields: dict[str, Any], named: str, query: str
) -> None:
    answer = api.post(f"/v1/jobs{query}", json={**SPEC, **fields})
    assert answer.status_code == 422
    assert f"{named} is a relative path; expected an absolute path" in answer.json()["detail"]
    assert store.listing.page().jobs == []


def test_absolute_paths_and_uris_are_taken(api: TestClient) -> None:
    pool = {"shards": ["/pool/0.tar::s3://pool/{0..3}.tar", "file:///pool/4.tar"]}
    assert api.post("/v1/jobs", json={**SPEC, "pool": pool}).status_code == 202
