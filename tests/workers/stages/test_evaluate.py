"""The evaluation of a job whose shards are scored: in one process, resumed, and with data that is not as it was."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coreset.errors import InvalidSpec, PoolUnusable, ShardUnreadable
from coreset.schemas.evaluation import Evaluation
from coreset.schemas.job import Job, JobStatus
from coreset.schemas.manifest import ShardSummary
from coreset.schemas.plan import Plan
from coreset.schemas.trials import Setup, Trial
from coreset.selection.select import count_samples, select, selected_uids
from coreset.spec.evaluation import EvaluateSpec
from coreset.spec.job import JobSpec
from coreset.spec.selection import Sampling, SelectSpec
from coreset.storage.storage import Storage
from coreset_workers.evaluation import plan as planning
from coreset_workers.evaluation.plan import plan_proxies
from coreset_workers.evaluation.trial import ProxyData, load_data, run_trial
from coreset_workers.local.job import run_job
from demo.pool import write_sound_shard
from tests.conftest import TINY_MODEL

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("held_out") / "test.tar"
    write_sound_shard(path, 30, seed=7)
    return path


@pytest.fixture(scope="module")
def evaluate(held_out: Path) -> EvaluateSpec:
    return EvaluateSpec.model_validate(
        {
            "test": {"shards": [str(held_out)]},
            "seeds": 2,
            "selections": {"clip_score": {"by": "clip_score"}, "diffin": {"by": "diffin"}},
            "samples_seen": 160,
            "batch_size": 16,
            "model": {"config": TINY_MODEL},
        }
    )


@pytest.fixture(scope="module")
def setup(plan: Plan, evaluate: EvaluateSpec) -> Setup:
    world = plan_proxies(evaluate, plan)
    return Setup(plan_id=plan.id, left_out=[], world=world, samples_seen=160, batch_size=16, lr=1e-3)


@pytest.fixture(scope="module")
def data(plan: Plan, setup: Setup) -> ProxyData:
    return load_data(setup, plan, 0, lambda fraction: None)


@pytest.mark.slow
def test_a_local_job_evaluates_and_goes_on_where_it_was(
    results: Storage, plan: Plan, scored_spec: JobSpec, evaluate: EvaluateSpec, summaries: list[ShardSummary]
) -> None:
    spec = scored_spec.model_copy(update={"evaluate": evaluate})
    seen: list[Job] = []
    manifest = run_job(spec, results, seen.append, 0)
    assert manifest.plan_id == plan.id
    assert manifest.evaluation is not None
    found = Evaluation.model_validate_json(Path(manifest.evaluation.uri).read_bytes())
    assert [(cut.selection, cut.k, len(cut.proxies)) for cut in found.cuts] == [
        ("full", manifest.scored, 2),
        ("clip_score", 40, 2),
        ("diffin", 40, 2),
    ]
    fractions = [job.progress.fraction for job in seen]
    assert fractions == sorted(fractions)
    assert "training proxies, 5 of 6" in {job.progress.stage for job in seen}
    assert seen[-1].status is JobStatus.SUCCEEDED
    folder = Path(results.uri(f"plans/{plan.id}/trials"))
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(before) == 6
    again = run_job(spec, results, lambda job: None, 0)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert again.evaluation is not None


def test_proxies_see_good_samples_once_at_their_own_resolution(
    plan: Plan, good: list[dict[str, Any]], data: ProxyData, results: Storage
) -> None:
    assert sorted(data.pool.uids) == sorted({row["uid"] for row in good})
    assert count_samples(results, plan) == len(data.pool)
    assert data.pool.images.shape == (len(data.pool), 3, 32, 32)
    assert (len(data.test), data.known) == (30, 0)


def test_kept_uids_are_those_of_the_selection(results: Storage, plan: Plan, parts: list[object]) -> None:
    spec = SelectSpec(k=200, by={"clip_score": 1}, sampling=Sampling(temperature=0.1, max_repeats=4))
    selection = select(results, plan, "kept", spec)
    subset = np.load(selection.files["subset.npy"].uri)
    kept = selected_uids(results, plan, spec)
    assert sum(kept.values()) == len(subset) == 200
    assert set(kept) == {f"{int(high):016x}{int(low):016x}" for high, low in subset.tolist()}


def test_the_same_trial_measures_the_same(
    results: Storage, plan: Plan, setup: Setup, data: ProxyData, parts: list[object]
) -> None:
    trial = Trial(select=SelectSpec(k=40, by={"clip_score": 1}), seed=3)
    one, two = (run_trial(results, plan, setup, trial, data, CPU, lambda fraction: None) for _ in range(2))
    assert one.quality == two.quality
    assert one.tested == 30


def test_what_the_pool_has_is_no_test(plan: Plan, setup: Setup, tiny_pool: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied.tar"
    copied.write_bytes((tiny_pool / "000001.tar").read_bytes())
    spec = EvaluateSpec.model_validate({"test": {"shards": [str(copied)]}, "model": {"config": TINY_MODEL}})
    world = plan_proxies(spec, plan)
    with pytest.raises(PoolUnusable, match=r"none of the \d+ good samples of `evaluate\.test` is held out"):
        load_data(setup.model_copy(update={"world": world}), plan, 0, lambda fraction: None)


def test_a_shard_that_is_another_one_now_fails_by_name(plan: Plan, setup: Setup, tmp_path: Path) -> None:
    path = tmp_path / "test.tar"
    write_sound_shard(path, 4, seed=9)
    spec = EvaluateSpec.model_validate({"test": {"shards": [str(path)]}, "model": {"config": TINY_MODEL}})
    world = plan_proxies(spec, plan)
    path.unlink()
    with pytest.raises(ShardUnreadable, match=r"test\.tar"):
        load_data(setup.model_copy(update={"world": world}), plan, 0, lambda fraction: None)
    write_sound_shard(path, 5, seed=9)
    with pytest.raises(ShardUnreadable, match=r"test\.tar has changed since the job was planned"):
        load_data(setup.model_copy(update={"world": world}), plan, 0, lambda fraction: None)


def test_a_pool_that_memory_cannot_hold_is_refused_at_once(
    plan: Plan, evaluate: EvaluateSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 3 * 32 * 32 * plan.n_samples.value
    monkeypatch.setattr(planning, "free_bytes", lambda device: int(1.9 * needed))
    with pytest.raises(InvalidSpec, match="an evaluation holds the pool in memory"):
        plan_proxies(evaluate, plan)
