"""A coreset's new shards, read by plain tarfile, by the webdataset library, and by open_clip's own reader of sizes."""

import gc
import io
import json
import tarfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset as wds
from open_clip_train.data import get_dataset_size

from coreset.errors import ShardUnreadable
from coreset.schemas.manifest import Selection
from coreset.schemas.plan import Plan
from coreset.selection.select import select
from coreset.spec.pool import PoolSpec
from coreset.spec.scores import Score
from coreset.spec.selection import SelectSpec
from coreset.storage.layout import JobFolder, PlanFolder
from coreset.storage.storage import Storage
from coreset.uids import from_subset
from coreset_workers.data.listing import list_shards
from coreset_workers.data.loader import Loader
from coreset_workers.data.tar import ShardReader
from coreset_workers.outputs import shards as module
from coreset_workers.outputs.parts import part_table
from coreset_workers.outputs.shards import write_shards
from demo.pool import write_pool
from tests.coreset.selections import write_summary

K = 40
Members = dict[str, bytes]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pool's captions and images anew, in a folder, with members besides that no scoring reads."""
    directory = tmp_path_factory.mktemp("pool")
    drawn = write_pool(directory / "drawn", samples=60, shards=2, seed=3)
    for path in drawn:
        with tarfile.open(directory / path.name, "w", format=tarfile.PAX_FORMAT) as tar:
            for key, members in samples_of(path).items():
                extra = {"seg.PNG": key.encode() * 7, "cls": b"4"}
                for ext, content in (members | extra).items():
                    header = tarfile.TarInfo(f"folder/{key}.{ext}")
                    header.size, header.mtime, header.uname = len(content), 1234567, "somebody"
                    tar.addfile(header, io.BytesIO(content))
    return directory


def samples_of(path: Path) -> dict[str, Members]:
    """A shard's members by key and lower-case extension, as plain tarfile sees them."""
    samples: dict[str, Members] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key, ext = member.name.rsplit("/", 1)[-1].split(".", 1)
            samples.setdefault(key, {})[ext.lower()] = tar.extractfile(member).read()
    return samples


@pytest.fixture(scope="module")
def random_plan(pool: Path, plan: Plan) -> Plan:
    """A plan that ranks the pool by chance: no model is wanted for that."""
    shards = list_shards(PoolSpec(shards=[str(pool / "{000000..000001}.tar")]))
    return plan.model_copy(update={"shards": shards, "scores": [Score.RANDOM]})


@pytest.fixture
def storage(tmp_path: Path, random_plan: Plan, loader: Loader) -> Storage:
    """A storage with the plan's parts."""
    return with_parts(random_plan, tmp_path / "storage", loader)


def with_parts(plan: Plan, folder: Path, loader: Loader) -> Storage:
    storage = Storage(str(folder))
    for shard in plan.shards:
        (block,) = loader.blocks(ShardReader(shard.uri), 10**6)
        table = part_table(plan, Path(shard.uri).name, block.samples, block.good, {})
        name = PlanFolder(plan.id).part(shard.index)
        part = storage.write_with(name, lambda file, table=table: pq.write_table(table, file), len(table))
        write_summary(storage, plan, shard.index, part)
    return storage


@pytest.fixture
def selection(storage: Storage, random_plan: Plan) -> Selection:
    return select(storage, random_plan, "job1", SelectSpec(k=K, by={Score.RANDOM: 1.0}))


@pytest.fixture
def shards(storage: Storage, random_plan: Plan, selection: Selection, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the coreset's shards, of 16 samples at most."""
    monkeypatch.setattr(module, "SAMPLES_PER_SHARD", 16)
    write_shards(storage, random_plan, selection, lambda fraction: None)
    return Path(storage.path(JobFolder("job1").selection(selection.id).file("shards")))


@pytest.fixture
def chosen(storage: Storage, selection: Selection, pool: Path) -> dict[str, Members]:
    """The chosen samples' members by uid, as they lie in the pool."""
    members = {key: found for path in sorted(pool.glob("*.tar")) for key, found in samples_of(path).items()}
    rows = pq.read_table(io.BytesIO(storage.read(JobFolder("job1").selection(selection.id).subset)))
    return {row["uid"]: members[row["key"].rsplit("/", 1)[-1]] for row in rows.to_pylist()}


@contextmanager
def others_leaving_files_open() -> Iterator[None]:
    """webdataset and open_clip leave closing to the garbage collector, which here warns of it: not ours to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def test_plain_tarfile_finds_the_members_untouched_under_their_uid(shards: Path, chosen: dict[str, Members]) -> None:
    found = {uid: members for path in sorted(shards.glob("*.tar")) for uid, members in samples_of(path).items()}
    assert found == chosen
    assert {"jpg", "txt", "json", "cls", "seg.png"} == set(next(iter(found.values())))


def test_members_of_a_sample_stand_together_as_datacomps_resharder_wants_them(shards: Path) -> None:
    names: list[str] = []
    for path in sorted(shards.glob("*.tar")):
        with tarfile.open(path) as tar:
            names += tar.getnames()
    grouped = [key for key, _ in groupby(name.split(".", 1)[0] for name in names)]
    assert len(grouped) == len(set(grouped)) == K
    assert len(names) == len(set(names))


def test_the_webdataset_library_reads_the_same(shards: Path, chosen: dict[str, Members]) -> None:
    urls = [str(path) for path in sorted(shards.glob("*.tar"))]
    with others_leaving_files_open():
        found = list(wds.WebDataset(urls, shardshuffle=False))
    assert {sample["__key__"]: {k: v for k, v in sample.items() if k[:2] != "__"} for sample in found} == chosen
    assert all(json.loads(sample["json"])["uid"] == sample["__key__"] for sample in found)


def test_samples_stand_in_the_order_of_the_pool(shards: Path, pool: Path, chosen: dict[str, Members]) -> None:
    in_pool = [json.loads(m["json"])["uid"] for path in sorted(pool.glob("*.tar")) for m in samples_of(path).values()]
    written = [uid for path in sorted(shards.glob("*.tar")) for uid in samples_of(path)]
    assert written == [uid for uid in in_pool if uid in chosen]


def test_the_files_beside_the_shards_tell_their_sizes(shards: Path) -> None:
    sizes = {path.name: len(samples_of(path)) for path in sorted(shards.glob("*.tar"))}
    assert sizes == {"00000000.tar": 16, "00000001.tar": 16, "00000002.tar": 8}
    assert json.loads((shards / "sizes.json").read_text()) == sizes
    assert json.loads((shards / "00000002_stats.json").read_text()) == {"successes": 8}
    assert json.loads((shards / "meta.json").read_text())["output_shard_count"] == 3
    with others_leaving_files_open():
        assert get_dataset_size(str(shards / "{00000000..00000002}.tar")) == (K, 3)


def test_sample_ids_are_the_subset(shards: Path, chosen: dict[str, Members]) -> None:
    ids = np.load(shards / "sample_ids.npy")
    assert ids.dtype == np.dtype("u8,u8")
    assert from_subset(ids) == sorted(chosen)


def test_the_new_shards_are_a_pool_again(shards: Path, chosen: dict[str, Members], loader: Loader) -> None:
    planned = list_shards(PoolSpec(shards=[str(shards / "{00000000..00000002}.tar")]))
    assert [shard.expected for shard in planned] == [16, 16, 8]
    assert {s.uid for shard in planned for s in loader.decode(ShardReader(shard.uri))} == chosen.keys()


def test_equal_selections_have_equal_bytes_and_every_file_is_named(
    storage: Storage, random_plan: Plan, selection: Selection
) -> None:
    reported: list[float] = []
    first = write_shards(storage, random_plan, selection, reported.append)
    assert write_shards(storage, random_plan, selection, reported.append) == first
    assert reported == [0, 0.5, 0, 0.5]
    folder = Path(storage.path(JobFolder("job1").selection(selection.id).root))
    assert {f"shards/{path.name}" for path in (folder / "shards").iterdir()} == first.keys()
    assert first["shards/sample_ids.npy"].sha256 == selection.files["subset.npy"].sha256


def test_a_uid_that_the_pool_holds_twice_is_written_once(
    tmp_path: Path, pool: Path, random_plan: Plan, loader: Loader
) -> None:
    copy = tmp_path / "copy.tar"
    copy.write_bytes((pool / "000000.tar").read_bytes())
    uris = [str(pool / "000000.tar"), str(copy)]
    twice = random_plan.model_copy(update={"shards": list_shards(PoolSpec(shards=uris))})
    storage = with_parts(twice, tmp_path / "storage", loader)
    selection = select(storage, twice, "job1", SelectSpec(fraction=1, by={Score.RANDOM: 1.0}))
    assert selection.duplicates == selection.k > 20
    write_shards(storage, twice, selection, lambda fraction: None)
    folder = Path(storage.path(JobFolder("job1").selection(selection.id).file("shards")))
    assert len(samples_of(folder / "00000000.tar")) == selection.k


def test_a_sample_that_was_drawn_several_times_is_written_as_often(
    storage: Storage, random_plan: Plan, pool: Path
) -> None:
    spec = {"k": 90, "by": "random", "sampling": {"temperature": 0.5, "max_repeats": 3}}
    selection = select(storage, random_plan, "job1", SelectSpec.model_validate(spec))
    write_shards(storage, random_plan, selection, lambda fraction: None)
    folder = Path(storage.path(JobFolder("job1").selection(selection.id).file("shards")))
    rows = pq.read_table(selection.files["subset.parquet"].uri).to_pylist()
    assert {row["copies"] for row in rows} == {1, 2, 3}
    names = [f"{row['uid']}-{i}" if row["copies"] > 1 else row["uid"] for row in rows for i in range(row["copies"])]
    written = samples_of(folder / "00000000.tar")
    assert sorted(written) == sorted(names)
    assert all(json.loads(members["json"])["uid"] == name.split("-")[0] for name, members in written.items())
    assert sorted(name.split("-")[0] for name in names) == from_subset(np.load(folder / "sample_ids.npy"))


def test_a_shard_that_has_changed_since_it_was_scored_is_told(
    tmp_path: Path, storage: Storage, random_plan: Plan, selection: Selection, pool: Path
) -> None:
    changed = tmp_path / "000001.tar"
    with tarfile.open(changed, "w"):
        pass
    moved = [shard.model_copy(update={"uri": str(changed)}) if shard.index else shard for shard in random_plan.shards]
    other = random_plan.model_copy(update={"shards": moved})
    for shard in random_plan.shards:
        for path in (PlanFolder.part, PlanFolder.summary):
            file = storage.read(path(PlanFolder(random_plan.id), shard.index))
            storage.write(path(PlanFolder(other.id), shard.index), file)
    with pytest.raises(ShardUnreadable, match=r"of the coreset's 40 samples were found again: a shard has changed"):
        write_shards(storage, other, selection, lambda fraction: None)
