"""The plan's N: how many samples the pool holds, by the best source there is, and never 0."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from coreset.schemas.plan import Plan, Sourced
from coreset.spec.job import JobSpec
from coreset.spec.scores import SCORES, Score
from coreset_workers.stages.plan import make_plan


def write_tar(path: Path, samples: int) -> None:
    with tarfile.open(path, "w") as tar:
        for i in range(samples):
            header = tarfile.TarInfo(f"{i}.txt")
            header.size = 3
            tar.addfile(header, io.BytesIO(b"red"))


def planned(tmp_path: Path, shards: str = "{0..1}.tar", by: str = "diffin", **fields: object) -> tuple[Plan, list[str]]:
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pt")
    spec = {
        "pool": {"shards": [str(tmp_path / shards)]},
        "checkpoints": {"files": [{"uri": str(tmp_path / "a.pt"), "step": 1, "lr": 0.1}]},
        "model": {"config": {"embed_dim": 8}},
        "select": {"k": 1, "by": by},
    }
    return make_plan(JobSpec.model_validate(spec | fields))


def n_samples(tmp_path: Path, shards: str = "{0..1}.tar") -> Sourced:
    return planned(tmp_path, shards)[0].n_samples


@pytest.fixture(autouse=True)
def shards(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", 3)
    write_tar(tmp_path / "1.tar", 4)


def test_n_is_what_the_files_beside_the_shards_say(tmp_path: Path) -> None:
    (tmp_path / "sizes.json").write_text(json.dumps({"0.tar": 13, "1.tar": 17}))
    assert n_samples(tmp_path) == Sourced(value=30, source="files beside the shards")


def test_n_is_counted_where_no_file_says_it(tmp_path: Path) -> None:
    (tmp_path / "sizes.json").write_text(json.dumps({"0.tar": 13}))
    assert n_samples(tmp_path) == Sourced(value=17, source="tar headers")


def test_n_is_estimated_by_the_sizes_where_a_shard_cannot_be_counted(tmp_path: Path) -> None:
    (tmp_path / "1.tar").write_bytes((tmp_path / "0.tar").read_bytes()[:2000] + bytes(8240))
    (tmp_path / "1.tar").rename(tmp_path / "1.tar.gz")
    found = n_samples(tmp_path, "{0.tar,1.tar.gz}")
    assert found == Sourced(value=6, source="estimated from sizes")


def test_n_is_never_zero(tmp_path: Path) -> None:
    (tmp_path / "sizes.json").write_text(json.dumps({"0.tar": 0, "1.tar": 0}))
    assert n_samples(tmp_path).value == 1
    (tmp_path / "sizes.json").unlink()
    write_tar(tmp_path / "0.tar", 0)
    write_tar(tmp_path / "1.tar", 0)
    assert n_samples(tmp_path).value == 1
    (tmp_path / "1.tar").write_bytes(gzip.compress(b""))
    assert n_samples(tmp_path).value == 1
    (tmp_path / "0.tar").write_bytes(gzip.compress(b""))
    assert "not known" in n_samples(tmp_path).source


@pytest.mark.parametrize("by", [Score.DIFFIN, Score.DIFFIN_EQ9])
def test_a_job_that_ranks_by_a_score_says_what_is_measured_against_it(tmp_path: Path, by: Score) -> None:
    caution = SCORES[Score.DIFFIN_EQ9].caution
    assert caution is not None
    assert (caution in planned(tmp_path, by=by)[1]) == (by is Score.DIFFIN_EQ9)


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("ViT-B-32", "laion2b_s34b_b79k"),
        ("ViT-B-32", "openai"),
        ("ViT-B-16-SigLIP", "webli"),
        ("ViT-H-14-CLIPA", "datacomp1b"),
    ],
)
def test_a_tags_weights_see_what_open_clip_would_show_them(tmp_path: Path, name: str, tag: str) -> None:
    model = planned(tmp_path, clip_model={"name": name, "pretrained": tag})[0].clip_model
    assert model is not None
    tagged, usual = open_clip.get_pretrained_cfg(name, tag), dict(vars(PreprocessCfg()))
    assert tagged
    assert merge_preprocess_dict(usual, dict(model.preprocess)) == merge_preprocess_dict(usual, tagged)
    assert bool(model.config.get("quick_gelu")) == bool(tagged.get("quick_gelu"))


def test_a_file_and_a_usual_tag_leave_the_plan_as_it_was(tmp_path: Path) -> None:
    for pretrained in ("/weights.pt", "laion2b_s34b_b79k"):
        model = planned(tmp_path, clip_model={"name": "ViT-B-32", "pretrained": pretrained})[0].clip_model
        assert model is not None
        assert (model.preprocess, model.preprocess_source) == ({}, "open_clip defaults")
        assert model.config == open_clip.get_model_config("ViT-B-32")
