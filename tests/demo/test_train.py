"""A training of one epoch by open_clip's own trainer, with a model of a few thousand parameters beside its words."""

import csv
import json
import logging
from pathlib import Path

import open_clip
import pytest
import torch

from demo.pool import write_pool
from demo.train import MODEL_CONFIG, Training, train
from demo.trainset import CAPTION_COLUMN, IMAGE_COLUMN, extract_csv, usable_samples

TINY = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of one epoch on 64 samples."""
    directory = tmp_path_factory.mktemp("training")
    config = directory / "tiny.json"
    config.write_text(json.dumps(TINY))
    write_pool(directory / "pool", samples=64, shards=2)
    training = Training(name="tiny", epochs=1, batch_size=16, loader_workers=0, model_config=config)
    return train(directory / "pool", directory / "logs", training)


def test_the_checkpoint_is_open_clips_and_loads_without_pickled_code(trained: Path) -> None:
    checkpoint = torch.load(trained / "checkpoints" / "epoch_1.pt", map_location="cpu", weights_only=True)
    assert checkpoint["epoch"] == 1
    assert {int(state["step"]) for state in checkpoint["optimizer"]["state"].values()} == {3}
    assert all(torch.isfinite(value).all() for value in checkpoint["state_dict"].values())


def test_params_name_the_training(trained: Path) -> None:
    params = dict(line.split(": ", 1) for line in (trained / "params.txt").read_text().splitlines())
    assert (params["name"], params["batch_size"], params["epochs"]) == ("tiny", "16", "1")
    assert float(params["lr"]) > 0


def test_the_architecture_file_builds_the_model_that_was_trained(trained: Path) -> None:
    architecture = json.loads((trained / "open_clip_config.json").read_text())
    model = open_clip.CLIP(**architecture["model_cfg"])
    checkpoint = torch.load(trained / "checkpoints" / "epoch_1.pt", weights_only=True)
    model.load_state_dict(checkpoint["state_dict"])
    assert architecture["preprocess_cfg"]["size"] == 32
    assert architecture["preprocess_cfg"]["mean"] == list(open_clip.OPENAI_DATASET_MEAN)


def test_logging_is_left_as_it_was_and_the_full_log_is_kept(trained: Path) -> None:
    log_files = {getattr(handler, "baseFilename", None) for handler in logging.root.handlers}
    assert str(trained / "out.log") not in log_files
    assert "Train Epoch: 0" in (trained / "out.log").read_text()


def test_an_earlier_training_is_not_overwritten(trained: Path) -> None:
    with pytest.raises(FileExistsError, match="earlier training"):
        train(trained, trained.parent, Training(name="tiny"))


def test_the_demo_model_is_small_and_reads_every_caption() -> None:
    config = json.loads(MODEL_CONFIG.read_text())
    model = open_clip.CLIP(**config)
    assert sum(parameter.numel() for parameter in model.parameters()) < 4_000_000
    assert config["text_cfg"]["context_length"] >= 32


def test_every_sample_keeps_its_own_image_where_shards_repeat_keys(tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    write_pool(pool, samples=64, shards=1)
    write_pool(tmp_path / "other", samples=64, shards=1, seed=1)
    next((tmp_path / "other").glob("*.tar")).rename(pool / "other.tar")
    expected = [(image, caption) for _, image, caption in usable_samples(pool)]
    keys = [key for key, _, _ in usable_samples(pool)]
    assert len(set(keys)) < len(keys)
    path, count = extract_csv(pool, tmp_path)
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [(Path(row[IMAGE_COLUMN]).read_bytes(), row[CAPTION_COLUMN]) for row in rows] == expected
    assert count == len(expected)
