"""The reference draw: seeded, without twins, and clear about a pool that holds too little."""

import io
import json
import shutil
import tarfile
from functools import partial
from pathlib import Path

import pytest
from open_clip.transform import PreprocessCfg

from coreset.errors import PoolUnusable
from coreset.schemas.part import SampleStatus
from coreset.schemas.plan import PlannedModel, PlannedShard
from coreset.spec.pool import PoolSpec
from coreset_workers.data import reference
from coreset_workers.data.decode import Sample
from coreset_workers.data.listing import list_shards
from coreset_workers.data.loader import Loader
from coreset_workers.data.reference import draw
from coreset_workers.data.tar import ShardReader
from coreset_workers.model.clip import view_functions
from demo.pool import write_pool

SAMPLES = 120
MODEL = PlannedModel(
    name="tiny",
    config={
        "embed_dim": 8,
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
    },
    source="spec",
)


@pytest.fixture(scope="module")
def loader() -> Loader:
    return Loader({"run": partial(view_functions, MODEL, PreprocessCfg(size=16))}, None, processes=0)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pool")
    write_pool(directory, SAMPLES, shards=4)
    return directory


def planned(*paths: Path) -> list[PlannedShard]:
    return list_shards(PoolSpec(shards=[str(path) for path in paths]))


@pytest.fixture(scope="module")
def shards(pool: Path) -> list[PlannedShard]:
    return planned(*sorted(pool.glob("*.tar")))


def uids(samples: list[Sample]) -> list[str]:
    return [sample.uid for sample in samples]


def test_the_draw_depends_on_seed_and_shards_alone(shards: list[PlannedShard], loader: Loader) -> None:
    first, warning = draw(shards, 20, 7, loader)
    other_loader = Loader(loader.views, None, processes=0)
    assert uids(draw(shards[::-1], 20, 7, other_loader)[0]) == uids(first)
    assert uids(draw(shards, 20, 8, loader)[0]) != uids(first)
    assert uids(draw(shards[1:], 20, 7, loader)[0]) != uids(first)
    assert warning is None


def test_the_draw_holds_good_samples_with_their_tensors_and_distinct_uids(
    shards: list[PlannedShard], loader: Loader
) -> None:
    samples, _ = draw(shards, 40, 0, loader)
    assert len(samples) == len(set(uids(samples))) == 40
    assert {sample.status for sample in samples} == {SampleStatus.OK}
    assert all(sample.images["run"].shape == (3, 16, 16) for sample in samples)
    assert len({sample.key[:6] for sample in samples}) == 4  # keys begin with the shard's name


def test_a_larger_draw_begins_with_the_smaller_one(shards: list[PlannedShard], loader: Loader) -> None:
    assert uids(draw(shards, 30, 3, loader)[0])[:12] == uids(draw(shards, 12, 3, loader)[0])


def test_the_draw_is_warned_of_when_the_pool_is_smaller(shards: list[PlannedShard], loader: Loader) -> None:
    samples, warning = draw(shards, 500, 0, loader)
    everything = [sample for shard in shards for sample in loader.decode(ShardReader(shard.uri))]
    good = {sample.uid for sample in everything if sample.status is SampleStatus.OK}
    assert set(uids(samples)) == good
    assert warning == f"wanted 500 samples for the reference, found {len(good)} good ones"


def test_samples_with_the_same_uid_are_drawn_once(tmp_path: Path, pool: Path, loader: Loader) -> None:
    for name in ("a.tar", "b.tar"):
        shutil.copy(pool / "000000.tar", tmp_path / name)
    alone, _ = draw(planned(tmp_path / "a.tar"), 100, 0, loader)
    both, _ = draw(planned(tmp_path / "a.tar", tmp_path / "b.tar"), 100, 0, loader)
    assert len(both) == len(alone)
    assert set(uids(both)) == set(uids(alone))


def test_only_so_many_shards_are_read(
    shards: list[PlannedShard], loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "MOST_SHARDS", 2)
    samples, _ = draw(shards, 20, 0, loader)
    assert len({sample.key[:6] for sample in samples}) == 2


def test_a_shard_that_cannot_be_read_is_passed_over(tmp_path: Path, pool: Path, loader: Loader) -> None:
    (tmp_path / "noise.tar").write_bytes(b"noise" * 1000)
    shutil.copy(pool / "000000.tar", tmp_path / "good.tar")
    samples, warning = draw(planned(tmp_path / "noise.tar", tmp_path / "good.tar"), 10, 0, loader)
    assert len(samples) == 10
    assert warning is None


def write_captions(path: Path, captions: list[str]) -> None:
    """A shard of samples without images."""
    with tarfile.open(path, "w") as tar:
        for i, caption in enumerate(captions):
            for name, content in ((f"{i}.txt", caption.encode()), (f"{i}.json", json.dumps({"n": i}).encode())):
                header = tarfile.TarInfo(name)
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))


def test_a_pool_without_good_samples_is_refused_with_what_is_wrong(tmp_path: Path, loader: Loader) -> None:
    write_captions(tmp_path / "0.tar", ["red"] * 5)
    with pytest.raises(PoolUnusable) as caught:
        draw(planned(tmp_path / "0.tar"), 10, 0, loader)
    assert caught.value.detail.startswith(
        "only 0 good samples were found in 1 of 1 shards (5 no_image); at least 8 are needed."
    )
    assert caught.value.data == {"counts": {"no_image": 5}}


def test_an_empty_pool_is_refused(tmp_path: Path, loader: Loader) -> None:
    write_captions(tmp_path / "0.tar", [])
    with pytest.raises(PoolUnusable, match="they are empty"):
        draw(planned(tmp_path / "0.tar"), 10, 0, loader)


def test_a_caption_field_that_no_sample_has_is_told(shards: list[PlannedShard], loader: Loader) -> None:
    with pytest.raises(PoolUnusable, match=r"no_caption.*`caption_field`"):
        draw(shards, 10, 0, Loader(loader.views, "no_such_field", processes=0))


def test_a_pool_that_was_moved_gives_the_same_draw(
    pool: Path, shards: list[PlannedShard], loader: Loader, tmp_path: Path
) -> None:
    moved = shutil.copytree(pool, tmp_path / "elsewhere")
    assert uids(draw(shards, 20, 0, loader)[0]) == uids(draw(planned(*sorted(moved.glob("*.tar"))), 20, 0, loader)[0])
