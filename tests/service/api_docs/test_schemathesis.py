"""What schemathesis makes of our own OpenAPI: whatever is sent, no answer is a fault of ours, and each is as described.

A small slice by default; `make fuzz` sets CORESET_FUZZ_EXAMPLES for a long one.
"""

import os

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance

from coreset.access.api_keys import new_key
from coreset.settings import ServiceSettings
from coreset.storage.storage import Storage
from coreset_service.app import create_app
from tests.service.conftest import fake_select

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("CORESET_FUZZ_EXAMPLES", "4"))
KEY, _ENTRY = new_key("fuzz", ["read", "submit"])


OPERATIONS = [
    f"{method.upper()} {path}"
    for path, methods in create_app(ServiceSettings()).openapi()["paths"].items()
    for method in methods
]


@pytest.fixture
def app(redis: Redis, storage: Storage, succeeded: str) -> FastAPI:
    """A service with a key, and limits too wide to matter. Its job has ended, and its manifest is gone."""
    storage.delete(f"jobs/{succeeded}/manifest.json")
    limits = {"rate_per_minute": 10**9, "max_open_jobs": 10**9, "max_waiting_tasks": 10**9}
    made = ServiceSettings(storage=storage.root, api_keys=_ENTRY.line, check_seconds=0, **limits)
    return create_app(made, redis=redis, storage=storage, select=fake_select)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_answer_is_a_fault_of_ours(app: FastAPI, succeeded: str, operation: str) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    method, path = operation.split()

    @given(case=schema[path][method].as_strategy(), known=st.booleans())
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES < 100, suppress_health_check=list(HealthCheck))
    def answered(case: schemathesis.Case, known: bool) -> None:
        if known and "job_id" in case.path_parameters:  # else no example would meet a job
            case.path_parameters["job_id"] = succeeded
        answer = case.call(headers={"Authorization": f"Bearer {KEY}"}, timeout=60)
        if answer.status_code == 503:  # no worker is alive to make a preflight
            assert answer.json()["type"] == "/problems/unavailable"
            return
        case.validate_response(answer, checks=[not_a_server_error, content_type_conformance])

    answered()
