"""The API's description: an example of every body, every address and problem listed, docs in step with the code.

Where a snapshot differs and should: `make api-docs`, and look at the difference.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator

from coreset.spec.job import JobSpec
from coreset_service.api_docs.spec_page import spec_page
from coreset_service.http.problem_texts import REASONS, TEXTS, problems_page
from coreset_service.http.problems import all_types

ROOT = Path(__file__).parents[3]
FORGOTTEN = "run `make api-docs` and look at the difference"


@pytest.fixture
def description(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def bodies(description: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every JSON body of the description, and where it is."""
    for place in ("paths", "webhooks"):
        for path, operations in description[place].items():
            for method, operation in operations.items():
                parts = {"request": operation.get("requestBody", {}), **operation["responses"]}
                for name, part in parts.items():
                    for media_type, content in part.get("content", {}).items():
                        if media_type == "application/json":
                            yield f"{method} {path} {name}", content


def examples_of(content: dict[str, Any], description: dict[str, Any]) -> list[Any]:
    if "example" in content:
        return [content["example"]]
    schema = content["schema"]
    own = description["components"]["schemas"].get(schema.get("$ref", "").rsplit("/", 1)[-1], {})
    return schema.get("examples") or own.get("examples") or []


def test_every_body_has_an_example_that_is_valid(description: dict[str, Any]) -> None:
    found = dict(bodies(description))
    assert len(found) >= 10
    for where, content in found.items():
        given = examples_of(content, description)
        assert given, f"{where} has no example"
        schema = {"components": description["components"], **content["schema"]}
        for example in given:
            mistakes = [error.message for error in Draft202012Validator(schema).iter_errors(example)]
            assert mistakes == [], where


def test_every_error_is_the_same_problem(description: dict[str, Any]) -> None:
    for operations in description["paths"].values():
        for operation in operations.values():
            assert operation["responses"]["4XX"] == {"$ref": "#/components/responses/Problem"}
            assert "422" not in operation["responses"]


def test_the_snapshot_is_the_api(description: dict[str, Any]) -> None:
    assert json.loads((ROOT / "docs/openapi.json").read_text()) == json.loads(json.dumps(description)), FORGOTTEN


def test_the_reference_of_the_spec_is_current_and_names_every_field(description: dict[str, Any]) -> None:
    page = (ROOT / "docs/spec.md").read_text()
    assert page == spec_page(description), FORGOTTEN
    for name in ("JobSpec", "SelectSpec", "EvaluateSpec", "ValidationTarget", "Quota"):
        assert f"\n## {name}\n" in page
        for field in description["components"]["schemas"][name]["properties"]:
            assert f"| `{field}`" in page
    links = set(re.findall(r"\]\(#(\w+)\)", page))
    assert links == set(re.findall(r"\n## (\w+)\n", page.lower())) - {"jobspec"}


def test_the_example_of_the_spec_page_is_a_valid_spec() -> None:
    example = (ROOT / "docs/spec.md").read_text().split("```json\n")[1].split("```")[0]
    assert JobSpec.model_validate_json(example).target != "training"


def test_every_problem_is_documented_and_served(api: TestClient) -> None:
    assert TEXTS.keys() == all_types().keys()
    assert (ROOT / "docs/problems.md").read_text() == problems_page(all_types()), FORGOTTEN
    for slug, text in TEXTS.items():
        assert api.get(f"/problems/{slug}").json()["what_to_do"] == text.mend
    assert api.get("/problems/nonsense").status_code == 404


def test_every_reason_in_the_code_is_documented() -> None:
    code = "".join(
        path.read_text() for folder in ("coreset", "service", "workers") for path in (ROOT / folder).rglob("*.py")
    )
    codes = set(re.findall(r'Reason\(\s*code="([a-z-]+)"', code))
    assert codes
    assert codes <= REASONS.keys() | TEXTS.keys()


def test_every_address_stands_in_the_docs(description: dict[str, Any]) -> None:
    page = (ROOT / "docs/api.md").read_text()
    for path, operations in description["paths"].items():
        for method in operations:
            assert f"`{method.upper()} {path}`" in page
