"""The pool on disk against its plan and its side file, read by plain tarfile."""

import io
import json
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from demo.plan import SMALLEST_POOL, Defect, defect_counts, plan_pool, sound_pool
from demo.pool import write_pool
from demo.trainset import decodes, extract_csv, usable_samples

SAMPLES, SHARDS, SEED = 240, 3, 5


class Stored(NamedTuple):
    """One sample as it lies in a shard."""

    shard: str
    key: str
    members: dict[str, bytes]

    @property
    def facts(self) -> dict[str, object]:
        return json.loads(self.members["json"])


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pool")
    write_pool(directory, SAMPLES, SHARDS, SEED)
    return directory


@pytest.fixture(scope="module")
def stored(pool: Path) -> dict[str, Stored]:
    """Every stored sample by uid."""
    samples: dict[tuple[str, str], dict[str, bytes]] = {}
    for path in sorted(pool.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, extension = member.name.split(".", 1)
                samples.setdefault((path.name, key), {})[extension] = tar.extractfile(member).read()
    found = [Stored(shard, key, members) for (shard, key), members in samples.items()]
    return {str(sample.facts["uid"]): sample for sample in found}


@pytest.fixture(scope="module")
def defects(pool: Path) -> dict[str, dict[str, str]]:
    """The side file's rows by uid."""
    return {row["uid"]: row for row in pq.read_table(pool / "defects.parquet").to_pylist()}


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path, pool: Path) -> None:
    write_pool(tmp_path / "again", SAMPLES, SHARDS, SEED)
    write_pool(tmp_path / "other", SAMPLES, SHARDS, SEED + 1)
    assert files(tmp_path / "again") == files(pool)
    assert files(tmp_path / "other").keys() == files(pool).keys()
    assert all(files(tmp_path / "other")[name] != content for name, content in files(pool).items())


def test_other_processes_draw_the_same_bytes(tmp_path: Path, pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo.pool.PARALLEL_FROM", 1)
    write_pool(tmp_path, SAMPLES, SHARDS, SEED)
    assert files(tmp_path) == files(pool)


def test_shards_hold_every_sample_once_with_a_32_hex_uid(stored: dict[str, Stored]) -> None:
    assert len(stored) == SAMPLES
    assert {sample.shard for sample in stored.values()} == {"000000.tar", "000001.tar", "000002.tar"}
    assert all(len(uid) == 32 and int(uid, 16) >= 0 for uid in stored)
    assert len({sample.key for sample in stored.values()}) == SAMPLES


def test_the_side_file_counts_each_defect_and_points_to_the_sample(
    stored: dict[str, Stored], defects: dict[str, dict[str, str]]
) -> None:
    named = [row["defect"] for row in defects.values()]
    assert {defect: named.count(defect) for defect in set(named)} == defect_counts(SAMPLES)
    assert all((stored[uid].shard, stored[uid].key) == (row["shard"], row["key"]) for uid, row in defects.items())


def test_what_is_stored_agrees_with_the_side_file(
    stored: dict[str, Stored], defects: dict[str, dict[str, str]]
) -> None:
    for uid, sample in stored.items():
        defect = defects[uid]["defect"] if uid in defects else Defect.NONE
        assert ("jpg" not in sample.members) == (defect == Defect.IMAGELESS)
        assert (sample.members["txt"] == b"") == (defect == Defect.EMPTY)
        assert sample.facts["caption"] == sample.members["txt"].decode()
        if "jpg" in sample.members:
            assert decodes(sample.members["jpg"]) == (defect != Defect.BROKEN)


def test_json_gives_the_true_size_of_the_image(stored: dict[str, Stored], defects: dict[str, dict[str, str]]) -> None:
    for uid, sample in stored.items():
        if defects.get(uid, {}).get("defect") not in (Defect.BROKEN, Defect.IMAGELESS):
            assert Image.open(io.BytesIO(sample.members["jpg"])).size == (
                sample.facts["width"],
                sample.facts["height"],
            )


@given(st.integers(SMALLEST_POOL, 150), st.integers(0, 2**20))
@settings(max_examples=20, deadline=None)
def test_a_mismatched_caption_is_another_samples_and_untrue_of_its_own(samples: int, seed: int) -> None:
    sound = {sample.text: sample.scene for sample in sound_pool(samples, seed)}
    mismatched = [sample for sample in plan_pool(samples, seed) if sample.defect == Defect.MISMATCHED]
    assert len(mismatched) == round(0.15 * samples)
    assert all(sample.scene.content() != sound[sample.text].content() for sample in mismatched)


def test_a_near_duplicate_shows_a_sound_samples_scene_in_other_words_and_other_bytes(stored: dict[str, Stored]) -> None:
    plan = plan_pool(SAMPLES, SEED)
    sound = {sample.scene: sample for sample in plan if sample.defect == Defect.NONE}
    copies = [sample for sample in plan if sample.defect == Defect.NEAR_DUPLICATE]
    assert len(copies) == round(0.05 * SAMPLES)
    for copy in copies:
        original = sound[copy.scene]
        assert copy.text != original.text
        images = [Image.open(io.BytesIO(stored[sample.uid].members["jpg"])) for sample in (original, copy)]
        first, second = (np.asarray(image.resize((12, 12), Image.Resampling.BOX), dtype=float) for image in images)
        assert images[0].size != images[1].size
        assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.8


def test_training_leaves_out_what_cannot_be_read(pool: Path, stored: dict[str, Stored]) -> None:
    left_out = sum(defect_counts(SAMPLES)[defect] for defect in (Defect.EMPTY, Defect.BROKEN, Defect.IMAGELESS))
    usable = list(usable_samples(pool))
    assert len(usable) == SAMPLES - left_out
    captions = {sample.key: sample.members["txt"].decode() for sample in stored.values()}
    assert all(captions[key] == text for key, _, text in usable)


def test_no_half_written_file_is_left(pool: Path) -> None:
    assert {path.suffix for path in pool.iterdir()} == {".tar", ".parquet"}


def test_a_pool_too_small_for_its_defects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 40 samples"):
        write_pool(tmp_path, samples=SMALLEST_POOL - 1)


def test_a_key_that_comes_again_in_another_shard_keeps_its_own_image(pool: Path, tmp_path: Path) -> None:
    drawn = [(image, caption) for _, image, caption in usable_samples(pool)][:2]
    for number, (image, caption) in enumerate(drawn):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as tar:
            for extension, content in (("jpg", image), ("txt", caption.encode())):
                member = tarfile.TarInfo(f"same.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    csv_path, count = extract_csv(tmp_path, tmp_path)
    rows = [line.split("\t") for line in csv_path.read_text().splitlines()[1:]]
    assert count == 2
    assert [(Path(path).read_bytes(), caption) for path, caption in rows] == drawn
