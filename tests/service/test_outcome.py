"""The first screen of a succeeded job: what came out, in words."""

from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient

from coreset.queue.job_store import JobStore
from coreset.queue.progress import SHARES, prepare_seconds_left
from coreset.schemas.evaluation import Evaluation
from coreset.schemas.job import Job, JobStatus
from coreset.schemas.manifest import Manifest, Selection
from coreset.storage.storage import Storage
from coreset_service.api_docs import examples
from coreset_service.outcome import downloads, outcome_of

BAD = {"bad_image": 11, "empty_caption": 23}


@pytest.fixture
def finished(store: JobStore, storage: Storage, succeeded: str) -> Job:
    """A job that has selected 600 of 1,000 samples read, and trained proxies on them."""
    own = {**examples.SELECTION, "job_id": succeeded, "k": 600, "rankable": 950, "duplicates": 10, "filtered": 6}
    counts = {"read": 1000, "scored": 966, "bad": BAD, "selection": own, "job_id": succeeded}
    file = {"uri": "x", "size": 1, "sha256": ""}
    manifest = Manifest.model_validate({**examples.MANIFEST, **counts, "evaluation": file})
    storage.write(f"jobs/{succeeded}/manifest.json", manifest.model_dump_json().encode())
    points = {"mean": 34.25, "low": 33.0, "high": 35.5}
    cut = {"selection": "selected", "fraction": 0.6, "k": 600, "proxies": [], "points": points}
    cut["against"] = {"random": {"mean": 2.2, "low": 0.8, "high": 3.6}}
    evaluation = Evaluation.model_validate({**examples.EVALUATION, "measured": "accuracy", "cuts": [cut]})
    storage.write(f"jobs/{succeeded}/evaluation.json", evaluation.model_dump_json().encode())
    return store.get(succeeded)


def test_every_sample_that_was_read_is_kept_or_left_out_for_a_reason(storage: Storage, finished: Job) -> None:
    outcome = outcome_of(storage, finished)
    assert outcome
    assert outcome.kept + sum(outcome.left_out.values()) == outcome.read == 1000
    assert outcome.left_out["bad, without scores"] == sum(BAD.values())
    assert outcome.left_out["not chosen by the rule"] == 350


def test_the_first_screen_says_what_came_out_before_hashes_and_devices(api: TestClient, finished: Job) -> None:
    page = " ".join(api.get(f"/jobs/{finished.id}").text.split())
    assert "Kept <strong>600</strong> of 1,000 samples" in page
    assert "34 bad, without scores (bad image 11, empty caption 23)" in page
    assert "reach 34.2 % zero-shot accuracy: +2.2 points (+0.8 to +3.6) against a random selection." in page
    assert page.index("Kept <strong>") < page.index("About this job") < page.index("<dt>Plan</dt>")


def test_every_download_of_the_first_screen_is_served(api: TestClient, succeeded: str) -> None:
    api.post(f"/v1/jobs/{succeeded}/selections", json={"k": 1})
    answer = api.get(f"/v1/jobs/{succeeded}/selections/s1").json()
    selection = Selection.model_validate(answer)
    files = downloads(succeeded, selection)
    assert set(files) == {"subset.npy", "selection.json"}
    for address in files.values():
        assert api.get(address).status_code == 200


def test_a_manifest_that_this_version_cannot_read_leaves_the_page(api: TestClient, succeeded: str) -> None:
    page = api.get(f"/jobs/{succeeded}")
    assert page.status_code == 200
    assert "Kept" not in page.text


def test_the_time_left_of_preparing_follows_its_fraction(finished: Job) -> None:
    now = datetime.now(UTC)
    progress = finished.progress.model_copy(update={"fraction": SHARES[0] / 4})
    started = {"started_at": now - timedelta(seconds=100), "status": JobStatus.PREPARING, "progress": progress}
    assert prepare_seconds_left(finished.model_copy(update=started), now) == pytest.approx(300)
    assert prepare_seconds_left(finished, now) is None
