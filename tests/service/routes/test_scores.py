"""Reading scores over HTTP, from real parts, in every form."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coreset.queue.job_store import JobStore, new_job_id
from coreset.schemas.job import JobStatus
from coreset.schemas.plan import Plan, PlannedCheckpoint, Sourced
from coreset.spec.job import JobSpec
from coreset.spec.scores import Score
from coreset.storage.storage import Storage
from tests.coreset.selections import Row, plan_of, write_parts
from tests.service.conftest import SPEC

NDJSON, CSV = "application/x-ndjson", "text/csv"
PARQUET, ARROW = "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"
ONE = Sourced(value=1, source="test")
CHECKPOINT = PlannedCheckpoint(
    index=0, uri="/a.pt", size=1, sha256="", epoch=None, step=ONE, lr=ONE, lr_sum=ONE, optimizer=None
)
PLAN = plan_of(2, scores=[Score.CLIP_SCORE, Score.TRACIN], checkpoints=[CHECKPOINT, CHECKPOINT])

Get = Callable[..., httpx.Response]


@pytest.fixture
def plan() -> Plan:
    return PLAN


@pytest.fixture
def stored(storage: Storage, plan: Plan) -> list[Row]:
    """Two shards of 40 samples, each with a bad one at its end; the good rows."""
    numbers = np.random.default_rng(0)
    shards = [
        [
            {
                "uid": f"{40 * shard + i + 1:02x}" + "0" * 30,
                "caption": f'été, "{i}"\n{shard}',
                "metadata_lang": ["en", None][i % 2],
                "cluster": i % 3,
                "clip_score": float(np.float32(numbers.normal())),
                "tracin": 0.1,
                "tracin_by_checkpoint": [0.1, 0.25],
            }
            for i in range(40)
        ]
        for shard in range(2)
    ]
    return write_parts(storage, plan, shards)


@pytest.fixture
def job_id(store: JobStore, storage: Storage, plan: Plan, stored: list[Row]) -> str:
    job_id = store.create(JobSpec.model_validate(SPEC), new_job_id()).id
    store.set_plan(job_id, plan.id, 2)
    for status in (JobStatus.PREPARING, JobStatus.SCORING, JobStatus.REDUCING, JobStatus.SUCCEEDED):
        store.transition(job_id, status)
    storage.write(f"plans/{plan.id}/plan.json", plan.model_dump_json().encode())
    return job_id


@pytest.fixture
def get(api: TestClient, job_id: str) -> Get:
    def ask(accept: str = NDJSON, **params: Any) -> httpx.Response:
        return api.get(f"/v1/jobs/{job_id}/scores", params=params, headers={"Accept": accept})

    return ask


def read(answer: httpx.Response) -> list[Row]:
    """The rows of an answer in any form; CSV knows text only."""
    assert answer.status_code == 200, answer.text
    kind = answer.headers["Content-Type"].split(";")[0]
    if kind == NDJSON:
        return [json.loads(line) for line in answer.text.splitlines()]
    if kind == CSV:
        return list(csv.DictReader(io.StringIO(answer.text)))
    table = (
        pq.read_table(io.BytesIO(answer.content)) if kind == PARQUET else pa.ipc.open_stream(answer.content).read_all()
    )
    return table.to_pylist()


@pytest.mark.parametrize("accept", [NDJSON, CSV, PARQUET, ARROW])
def test_all_rows_come_in_the_order_of_the_pool_in_every_form(get: Get, stored: list[Row], accept: str) -> None:
    found = read(get(accept))
    assert len(found) == 82
    good = [row for row in found if row["status"] == "ok"]
    assert [row["status"] for row in found if row not in good] == ["bad_image"] * 2
    for row, expected in zip(good, stored, strict=True):
        names = [name for name in expected if not name.endswith("_by_checkpoint")]
        assert list(row) == names
        for name in names:
            wanted, got = expected[name], row[name]
            if isinstance(wanted, float) and accept in (NDJSON, CSV):
                assert np.float32(got) == np.float32(wanted), name
            else:
                assert got == (("" if wanted is None else str(wanted)) if accept == CSV else wanted), name


def test_numbers_have_no_more_digits_than_they_have(get: Get) -> None:
    assert '"tracin":0.1,' in get().text.replace("}", ",")
    assert ",0.1\r" in get(CSV, fields="uid,tracin").text.replace("\n", "\r")


def test_fields_are_those_asked_for_in_that_order_terms_too(get: Get) -> None:
    rows = read(get(fields="clip_score, uid,tracin_by_checkpoint", limit=2))
    assert [list(row) for row in rows] == [["clip_score", "uid", "tracin_by_checkpoint"]] * 2
    assert rows[1]["tracin_by_checkpoint"] == [0.1, 0.25]
    assert read(get(CSV, fields="tracin_by_checkpoint", limit=1)) == [{"tracin_by_checkpoint": "[0.1, 0.25]"}]
    assert read(get(ARROW, fields="tracin_by_checkpoint", limit=1))[0]["tracin_by_checkpoint"][1] == 0.25


shares = st.integers(0, 255).map(lambda n: f"{n:02x}")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "uid_from": shares,
            "uid_to": st.one_of(shares, st.sampled_from("0123")),
            "shard": st.sampled_from(["0.tar", "1.tar"]),
            "status": st.sampled_from(["ok", "bad_image"]),
            "score": st.just("clip_score"),
        },
    ),
    st.lists(st.integers(-20, 20).map(lambda n: n / 10), min_size=2, max_size=2).map(sorted),
)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_range_is_what_a_loop_finds(get: Get, wanted: Row, bounds: list[float]) -> None:
    if "score" in wanted:
        wanted = wanted | {"min": bounds[0], "max": bounds[1]}

    def fits(row: Row) -> bool:
        score = row["clip_score"]
        return (
            ("uid_from" not in wanted or row["uid"] >= wanted["uid_from"].ljust(32, "0"))
            and ("uid_to" not in wanted or row["uid"] <= wanted["uid_to"].ljust(32, "f"))
            and all(row[name] == wanted[name] for name in ("shard", "status") if name in wanted)
            and ("score" not in wanted or (score is not None and bounds[0] <= np.float32(score) <= bounds[1]))
        )

    assert read(get(**wanted)) == [row for row in read(get()) if fits(row)]


def test_a_few_samples_are_found_by_uid_whatever_its_spelling(get: Get, stored: list[Row]) -> None:
    wanted = [stored[3]["uid"], stored[70]["uid"].upper(), "b" * 32]
    found = read(get(uid=wanted, fields="uid,status"))
    assert [row["uid"] for row in found] == [stored[3]["uid"], "b" * 32, stored[70]["uid"], "b" * 32]


@pytest.mark.parametrize(
    ("params", "status", "words"),
    [
        ({"uid": ["1" + "0" * 31, "f" * 32, "e" * 32]}, 404, f"this job has no sample with uid {'f' * 32}, {'e' * 32}"),
        ({"uid": "1"}, 404, f"this job has no sample with uid {'1'.zfill(32)}"),
        ({"shard": "9.tar"}, 404, "the pool has no shard 9.tar"),
        ({"uid": "xyz"}, 422, "uid.0: String should match pattern"),
        ({"fields": "uid,nonsense"}, 422, "there is no nonsense; there are uid, shard"),
        ({"score": "diffin"}, 422, "the job has not computed diffin; it has clip_score, tracin"),
        ({"min": 1}, 422, "`min` and `max` are of a score"),
        ({"limit": 10**30}, 422, "limit: Input should be less than or equal to"),
        ({"typo": 1}, 422, "typo: Extra inputs are not permitted"),
        ({"accept": "image/png"}, 406, "the answer cannot be given in a form that the request accepts"),
    ],
)
def test_what_cannot_be_had_is_a_problem(get: Get, params: Row, status: int, words: str) -> None:
    answer = get(**params)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert words in answer.json()["detail"]


def test_nothing_in_a_range_is_no_problem(get: Get) -> None:
    assert get(score="clip_score", min=99).text == ""
    assert get(CSV, score="clip_score", min=99, fields="uid").text == '"uid"\n'
    assert read(get(PARQUET, score="clip_score", min=99)) == read(get(ARROW, score="clip_score", min=99)) == []


@pytest.mark.parametrize(
    ("accept", "kind"),
    [("*/*", NDJSON), ("", NDJSON), ("text/html, text/csv;q=0.5, */*;q=0.1", CSV), ("text/*", CSV),
     (f"{CSV};q=0.2, {PARQUET};q=0.9", PARQUET), (f"{CSV};q=0, */*", NDJSON), (f"{ARROW};v=1", ARROW)],
)  # fmt: skip
def test_the_form_is_the_one_that_accept_likes_best(get: Get, accept: str, kind: str) -> None:
    assert get(accept, limit=1).headers["Content-Type"].split(";")[0] == kind


def test_a_format_stands_for_a_header(get: Get) -> None:
    answer = get("text/html", format="csv", limit=1, fields="uid")
    assert answer.headers["Content-Type"].startswith(CSV)
    assert answer.headers["Content-Disposition"] == 'inline; filename="scores.csv"'


def test_a_job_that_has_not_succeeded_is_a_conflict(api: TestClient) -> None:
    job = api.post("/v1/jobs", json=SPEC).json()["id"]
    assert api.get(f"/v1/jobs/{job}/scores").status_code == 409
    assert api.get("/v1/jobs/j0/scores").status_code == 404
