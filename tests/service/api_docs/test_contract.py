"""A client of the first API still works: what it sends is taken, and what it reads is there.

`first_client.json` is a recording and does not change; a change that breaks it needs another prefix than /v1.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator

from coreset.storage.storage import Storage
from coreset_service.api_docs import examples

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("first_client.json").read_text())


def reads(answer: Any, schema: str) -> list[str]:
    """Return what the first client would miss in the answer."""
    validator = Draft202012Validator({"$ref": f"#/$defs/{schema}", "$defs": RECORDED["$defs"]})
    return [f"{schema}: {error.json_path}: {error.message}" for error in validator.iter_errors(answer)]


@pytest.mark.parametrize("exchange", RECORDED["exchanges"], ids=lambda one: f"{one['method']} {one['path']}")
def test_what_the_first_client_asks_is_answered_as_it_expects(
    api: TestClient, storage: Storage, succeeded: str, exchange: dict[str, Any]
) -> None:
    storage.write(f"jobs/{succeeded}/manifest.json", json.dumps(examples.MANIFEST).encode())
    queued = api.post("/v1/jobs", json=RECORDED["exchanges"][0]["body"]).json()["id"]
    api.post(f"/v1/jobs/{succeeded}/selections", json={"k": 1, "by": "clip_score"})
    path = exchange["path"].format(queued=queued, succeeded=succeeded)
    answer = api.request(exchange["method"], path, json=exchange["body"], headers=exchange["headers"])
    assert answer.status_code == exchange["status"], answer.text
    assert all(name in answer.headers for name in exchange["headers_read"])
    if exchange["answer"]:
        assert reads(answer.json(), exchange["answer"]) == []


def test_a_whole_manifest_and_a_preflight_hold_what_the_first_client_reads() -> None:
    assert reads(examples.MANIFEST, "Manifest") == []
    assert reads(examples.PREFLIGHT, "Preflight") == []


def test_a_missing_field_would_be_seen() -> None:
    job = {name: value for name, value in examples.JOB.items() if name != "created_at"}
    assert reads(job, "Job") == ["Job: $: 'created_at' is a required property"]
    assert reads({**examples.JOB, "progress": {**examples.JOB["progress"], "fraction": "half"}}, "Job")
