"""Issue 18, point 5: a flipped bit in a stored file is noticed, and the file is made again or the job says so."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from coreset.errors import DamagedFile
from coreset.schemas.job import Job, JobStatus
from coreset.schemas.manifest import File, Manifest
from coreset.spec.job import JobSpec
from coreset.storage.examination import examine_parts, examine_prepared
from coreset.storage.layout import JobFolder, PlanFolder, load_manifest, load_plan
from coreset.storage.plan_files import complete_parts, load_summary, read_prepared
from coreset.storage.storage import Storage
from coreset.storage.target_clusters import load_target_clusters
from coreset.storage.verified import read_json, take_damage, write_json
from coreset_workers.influence.prepared_files import load_preparation
from coreset_workers.local.job import local_id, run_job
from coreset_workers.outputs.parts import find_part

FLIPS = 40
"""Bits flipped in each file, at seeded positions."""


@pytest.fixture(scope="session")
def flip_spec(tiny_pool: Path, tiny_run: Path) -> JobSpec:
    return JobSpec.model_validate(
        {
            "pool": {"shards": [str(tiny_pool / "{000000..000001}.tar")]},
            "checkpoints": {"run": str(tiny_run)},
            "target": {"pool": {"shards": [str(tiny_pool / "000002.tar")]}, "size": 16},
            "reference": {"size": 16},
            "clusters": 3,
            "scores": ["tracin", "clip_score"],
            "select": {"k": 12, "by": "clip_score"},
        }
    )


@pytest.fixture(scope="session")
def finished(flip_spec: JobSpec, tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, Manifest]:
    """A finished job, whose files no test changes for good."""
    storage = Storage(str(tmp_path_factory.mktemp("flips") / "storage"))
    return storage, run_job(flip_spec, storage, lambda job: None, 0)


@pytest.fixture
def noted() -> Iterator[None]:
    take_damage()
    yield
    take_damage()


@pytest.fixture
def copy(finished: tuple[Storage, Manifest], tmp_path: Path, noted: None) -> Storage:
    shutil.copytree(finished[0].root, tmp_path / "storage")
    return Storage(str(tmp_path / "storage"))


def flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ (1 << bit % 8)]) + data[bit // 8 + 1 :]


def bits(name: str, data: bytes) -> list[int]:
    return Random(name).sample(range(8 * len(data)), min(FLIPS, 8 * len(data)))


def plan_files(storage: Storage, plan_id: str, folder: str) -> list[str]:
    root = f"{PlanFolder(plan_id).root}/{folder}"
    return [f"{root}/{name}" for name in storage.names(root)]


def test_no_flip_in_a_part_or_its_summary_is_believed(copy: Storage, finished: tuple[Storage, Manifest]) -> None:
    plan = load_plan(copy, finished[1].plan_id)
    known = {shard: load_summary(copy, plan.id, shard) for shard in range(2)}
    for name in plan_files(copy, plan.id, "parts"):
        shard, data = int(Path(name).stem), copy.read(name)
        for bit in bits(name, data):
            copy.write(name, flipped(data, bit))
            assert find_part(copy, plan, shard) is None, (name, bit)
            with pytest.raises(DamagedFile):
                complete_parts(copy, plan.id, range(2))
            assert examine_parts(copy, plan.id, range(2)).damaged == [shard]
        copy.write(name, data)
        assert find_part(copy, plan, shard) == known[shard]
    assert {damage.kind for damage in take_damage()} == {"parts"}


def test_no_flip_in_a_prepared_file_is_believed(copy: Storage, finished: tuple[Storage, Manifest]) -> None:
    plan = load_plan(copy, finished[1].plan_id)
    folder, known = PlanFolder(plan.id), load_preparation(copy, plan)
    assert known is not None
    names = plan_files(copy, plan.id, "prepared")
    assert set(known.files) == set(names) - {folder.preparation}
    assert folder.target_clusters in names
    for name in names:
        data = copy.read(name)
        for bit in bits(name, data):
            copy.write(name, flipped(data, bit))
            if name == folder.preparation and load_preparation(copy, plan) == known:
                continue  # 1e-05 that became 1E-05 says the same
            assert examine_prepared(copy, plan.id).damaged == [name], bit
            with pytest.raises(DamagedFile):
                read_prepared(copy, plan.id, name)
            if name in (folder.preparation, folder.target_clusters):
                assert load_preparation(copy, plan) is None, "preparing starts again"
        copy.write(name, data)
    assert load_preparation(copy, plan) == known


def test_no_flip_in_a_files_own_checksum_makes_it_one_without(tmp_path: Path, noted: None) -> None:
    storage = Storage(str(tmp_path))
    write_json(storage, "plans/p/plan.json", '{"a": 1}')
    data = storage.read("plans/p/plan.json")
    for bit in range(8 * len(data)):
        storage.write("plans/p/plan.json", flipped(data, bit))
        with pytest.raises(DamagedFile):
            read_json(storage, "plans/p/plan.json")
    old = json.dumps({"a": list(range(99))}).encode()  # of a version without checksums
    for written in (old, b"{}"):
        storage.write("plans/p/plan.json", written)
        assert read_json(storage, "plans/p/plan.json") == written


def test_no_flip_in_a_plan_or_a_manifest_is_believed(copy: Storage, finished: tuple[Storage, Manifest]) -> None:
    manifest = finished[1]
    for name, load in (
        (PlanFolder(manifest.plan_id).plan, lambda: load_plan(copy, manifest.plan_id)),
        (f"jobs/{manifest.job_id}/manifest.json", lambda: load_manifest(copy, manifest.job_id)),
    ):
        data = copy.read(name)
        known = load()
        for bit in bits(name, data):
            copy.write(name, flipped(data, bit))
            with suppress(DamagedFile):
                assert load() == known, (name, bit)  # a blank that became another blank says the same
        copy.write(name, data)


def test_a_target_whose_clusters_are_gone_is_an_error(copy: Storage, finished: tuple[Storage, Manifest]) -> None:
    plan = load_plan(copy, finished[1].plan_id)
    assert sum(load_target_clusters(copy, plan)) == 16
    copy.delete(PlanFolder(plan.id).target_clusters)
    with pytest.raises(DamagedFile, match=r"it is gone\. Post the same spec again"):
        load_target_clusters(copy, plan)


def undamaged(storage: Storage, plan_id: str) -> bool:
    """Tell whether every part and every prepared file is what was written."""
    parts, prepared = examine_parts(storage, plan_id, range(2)), examine_prepared(storage, plan_id)
    return parts == (2, 2, []) and (prepared.checked, prepared.damaged) == (prepared.files, [])


def test_an_examination_ends_at_its_deadline_and_the_next_continues(
    copy: Storage, finished: tuple[Storage, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_id, opened = finished[1].plan_id, list[str]()
    open_file = copy.open
    monkeypatch.setattr(copy, "open", lambda name: (opened.append(name), open_file(name))[1])
    assert examine_parts(copy, plan_id, range(2), deadline=0.0) == (2, 1, []), "the first at least"
    assert examine_parts(copy, plan_id, range(2)) == (2, 2, [])
    assert examine_parts(copy, plan_id, range(2), deadline=0.0) == (2, 1, [])
    folder = PlanFolder(plan_id)
    assert opened == [name for shard in range(2) for name in (folder.summary(shard), folder.part(shard))]
    assert examine_prepared(copy, plan_id, deadline=0.0).checked == 1


HALF = "half of it"
EMPTY = "nothing of it"
FLIP = "all but one bit"


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("parts/000000.parquet", FLIP),
        ("parts/000000.parquet", EMPTY),
        ("parts/000001.json", HALF),
        pytest.param("prepared/ready.json", HALF, marks=pytest.mark.slow),
        pytest.param("prepared/ready.json", FLIP, marks=pytest.mark.slow),
        ("prepared/000.safetensors", FLIP),
        pytest.param("prepared/000.safetensors", EMPTY, marks=pytest.mark.slow),
    ],
)
def test_the_same_spec_makes_damaged_files_again(
    copy: Storage, finished: tuple[Storage, Manifest], flip_spec: JobSpec, name: str, left: str
) -> None:
    path = f"{PlanFolder(finished[1].plan_id).root}/{name}"
    data = copy.read(path)
    copy.write(path, {HALF: data[: len(data) // 2], EMPTY: b"", FLIP: flipped(data, 4 * len(data))}[left])
    if name.startswith("prepared"):  # read again only if a shard is still to be scored
        copy.delete(PlanFolder(finished[1].plan_id).summary(0))
    copy.delete(f"jobs/{local_id(flip_spec)}")
    seen: list[Job] = []
    manifest = run_job(flip_spec, copy, seen.append, 0)
    assert [part.sha256 for part in manifest.parts] == [part.sha256 for part in finished[1].parts]
    assert manifest.selection.files["subset.npy"].sha256 == finished[1].selection.files["subset.npy"].sha256
    assert undamaged(copy, manifest.plan_id)
    assert any(path in warning for warning in seen[-1].warnings)
    assert any(path in warning for warning in manifest.warnings)


GONE = "not there"


@pytest.mark.parametrize("left", [FLIP, GONE])
@pytest.mark.parametrize(
    "name",
    [
        *("parts/000000.parquet", "parts/000001.json", "prepared/ready.json", "prepared/target_clusters.json"),
        "merges/0-00000.json",
    ],
)
def test_damage_first_noticed_at_the_finish_is_repaired_in_the_same_job(
    copy: Storage, finished: tuple[Storage, Manifest], flip_spec: JobSpec, name: str, left: str
) -> None:
    folder, job = PlanFolder(finished[1].plan_id), JobFolder(local_id(flip_spec))
    path = f"{job.root}/{name}" if name.startswith("merges") else f"{folder.root}/{name}"
    copy.delete(job.root)
    seen: list[Job] = []

    def damage_at_the_finish(now: Job) -> None:
        if now.status is JobStatus.REDUCING and not (seen and seen[-1].status is JobStatus.REDUCING):
            data = copy.read(path)
            copy.delete(path) if left == GONE else copy.write(path, flipped(data, 4 * len(data)))
        seen.append(now)

    manifest = run_job(flip_spec, copy, damage_at_the_finish, 0)
    assert seen[-1].status is JobStatus.SUCCEEDED
    assert manifest.repaired.count == len(manifest.repaired.files) == 1
    [(repaired, why)] = manifest.repaired.files.items()
    assert repaired == path
    assert ("gone" in why) == (left == GONE)
    assert any(repaired in warning for warning in manifest.warnings)
    assert [part.sha256 for part in manifest.parts] == [part.sha256 for part in finished[1].parts]
    assert manifest.selection.files["subset.npy"].sha256 == finished[1].selection.files["subset.npy"].sha256
    assert (manifest.read, manifest.scored, manifest.duplicates) == (finished[1].read, finished[1].scored, 0)
    assert undamaged(copy, manifest.plan_id)


def test_a_file_that_is_damaged_again_after_its_repair_fails_the_job(
    copy: Storage, finished: tuple[Storage, Manifest], flip_spec: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a broken disk: the repair is tried once."""
    path, write, seen = PlanFolder(finished[1].plan_id).part(1), Storage.write_with, list[Job]()
    copy.delete(JobFolder(local_id(flip_spec)).root)
    written: list[str] = []

    def broken(storage: Storage, name: str, fill: Any, rows: int | None = None) -> File:
        file = write(storage, name, fill, rows)
        if name == path:
            written.append(name)
            data = Path(storage.path(name)).read_bytes()
            Path(storage.path(name)).write_bytes(flipped(data, 4 * len(data)))
        return file

    def damage_at_the_finish(now: Job) -> None:
        if now.status is JobStatus.REDUCING and not seen:
            monkeypatch.setattr(Storage, "write_with", broken)
            copy.delete(path)
            seen.append(now)

    with pytest.raises(DamagedFile, match=path):
        run_job(flip_spec, copy, damage_at_the_finish, 0)
    assert written == [path]
