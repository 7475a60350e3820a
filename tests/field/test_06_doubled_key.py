"""A key that stands twice in a body: the service says so, where a parser would take the last."""

import pytest
from fastapi.testclient import TestClient

from tests.service.conftest import SPEC, api, app  # noqa: F401  (fixtures)


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/job1/selections"])
def test_a_doubled_key_is_422_with_its_name(api: TestClient, path: str) -> None:  # noqa: F811
    answer = api.post(path, content='{"k": 1, "k": 2}', headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert "the key 'k' is given twice" in answer.json()["detail"]


def test_a_spec_without_one_is_taken(api: TestClient) -> None:  # noqa: F811
    assert api.post("/v1/jobs", json=SPEC).status_code == 202
