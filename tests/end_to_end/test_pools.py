"""One pool in five formats: the same uids, the same scores bit for bit on the CPU, the same coreset and new shards."""

import shutil
import tarfile
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coreset.schemas.manifest import Manifest
from coreset.spec.job import JobSpec
from coreset.spec.pool import PoolSpec
from coreset.storage.storage import Storage
from coreset_workers.data.decode import uid_of
from coreset_workers.data.listing import list_shards
from coreset_workers.data.shards import open_shard
from coreset_workers.local.job import run_job
from tests.workers.data.pool_formats import Row, rows_of, write_csv, write_jsonl, write_parquet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STEM = "data-00000-of-00001"
"""The name that `datasets` gives a file; the draw of the reference batch hashes it."""


def write_tar(rows: list[Row], folder: Path, tar: Path) -> Path:
    return Path(shutil.copy(tar, folder / f"{STEM}.tar"))


def write_with_datasets(rows: list[Row], folder: Path) -> Path:
    """Write the folder that Hugging Face's own library writes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import datasets
    datasets.disable_progress_bars()
    images = [None if row["jpg"] is None else {"bytes": row["jpg"], "path": None} for row in rows]
    columns = {"image": images, "text": [row["txt"] for row in rows]}
    columns |= {name: [row[name] for row in rows] for name in ("key", "uid")}
    found = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image(decode=False))
    found.save_to_disk(str(folder / "saved"))
    return folder / "saved"


def run(shards: Path, tiny_run: Path, out: Path, **pool: Any) -> Manifest:
    spec: dict[str, Any] = {
        "pool": {"shards": [str(shards)], **pool},
        "checkpoints": {"run": str(tiny_run)},
        "reference": {"size": 24},
        "scores": ["diffin", "tracin", "clip_score", "neg_clip_loss", "loss", "random"],
        "select": {"k": 10, "write_shards": True},
    }
    return run_job(JobSpec.model_validate(spec), Storage(str(out)), lambda job: None, loader_processes=0)


def scores(manifest: Manifest) -> pa.Table:
    (part,) = manifest.parts
    return pq.read_table(part.uri).drop_columns(["shard"])


def members(manifest: Manifest) -> dict[str, bytes]:
    """The images and captions of the new shards."""
    with tarfile.open(manifest.selection.files["shards/00000000.tar"].uri) as tar:
        files = [member for member in tar if not member.name.endswith(".json")]
        return {member.name: tar.extractfile(member).read() for member in files}  # type: ignore[union-attr]


def test_a_pool_gives_the_same_coreset_in_every_format(tiny_pool: Path, tiny_run: Path, tmp_path: Path) -> None:
    tar = tiny_pool / "000000.tar"
    rows = rows_of(tar)
    pools = {
        "tar": write_tar(rows, tmp_path, tar),
        "parquet": write_parquet(rows, tmp_path, STEM),
        "datasets": write_with_datasets(rows, tmp_path),
        "csv": write_csv(rows, tmp_path, STEM),
        "jsonl": write_jsonl(rows, tmp_path, STEM),
    }
    found = {name: run(shards, tiny_run, tmp_path / name) for name, shards in pools.items()}
    first = found.pop("tar")
    assert len({manifest.plan_id for manifest in [first, *found.values()]}) == len(pools)
    subset = Path(first.selection.files["subset.npy"].uri).read_bytes()
    for name, manifest in found.items():
        assert (manifest.read, manifest.bad) == (first.read, first.bad), name
        assert manifest.reference_uids == first.reference_uids
        assert scores(manifest).equals(scores(first)), name
        assert Path(manifest.selection.files["subset.npy"].uri).read_bytes() == subset
        assert members(manifest) == members(first)
    assert found["csv"].n_samples.source == "rows"
    assert len(list((tmp_path / "csv").glob("plans/*/thumbnails/*.parquet"))) == 1


def test_of_several_captions_the_best_by_the_rule_is_kept_and_written(
    tiny_pool: Path, tiny_run: Path, tmp_path: Path
) -> None:
    rows = rows_of(tiny_pool / "000000.tar")
    captions = [row["txt"] for row in rows]
    several = [{**row, "captions": captions[i : i + 3]} for i, row in enumerate(rows)]
    shards = write_parquet(several, tmp_path)
    found = run(shards, tiny_run, tmp_path / "out", caption_field="captions", captions="best")
    assert (found.duplicates, found.read > len(rows)) == (0, True)
    part = pq.read_table(found.parts[0].uri).to_pylist()
    kept = pq.read_table(found.selection.files["subset.parquet"].uri).to_pylist()
    new = members(found)
    assert len({row["uid"] for row in kept}) == len(kept) == 10
    for row in kept:
        pairs = [pair for pair in part if pair["uid"] == row["uid"] and pair["status"] == "ok"]
        assert (row["caption"], row["caption_index"]) in [(pair["caption"], pair["caption_index"]) for pair in pairs]
        assert new[f"{row['uid']}.txt"].decode() == row["caption"]
    assert any(row["caption_index"] > 0 for row in kept)
    (written,) = list_shards(PoolSpec(shards=[found.selection.files["shards/00000000.tar"].uri]))
    assert {uid_of(raw, None) for raw in open_shard(written)} == {row["uid"] for row in kept}
