"""`python -m demo.train POOL_DIR LOGS_DIR`: trains a small CLIP on a pool by open_clip's own trainer.

Leaves `LOGS_DIR/NAME/` as every open_clip training does: params.txt, out.log, checkpoints/epoch_K.pt; besides,
open_clip_config.json with the architecture, in the layout of open_clip's published models.
"""

import argparse
import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import open_clip
import torch
from open_clip.transform import PreprocessCfg
from open_clip_train.main import main as open_clip_train
from rich.console import Console

from demo.progress import training_progress
from demo.trainset import CAPTION_COLUMN, IMAGE_COLUMN, extract_csv

MODEL_NAME = "demo-ViT-16"
MODEL_CONFIG = Path(__file__).with_name("model_config.json")
RESIZE_MODE = "squash"
"""Scoring sees the whole image, as the mild crops of training do; `shortest` would cut objects at the edges off."""


@dataclass(frozen=True, slots=True)
class Training:
    """Options of a training. `warmup_share` is the share of all steps in which the learning rate rises."""

    name: str = "demo"
    epochs: int = 5
    batch_size: int = 64
    lr: float = 1.5e-3
    weight_decay: float = 0.1
    warmup_share: float = 0.15
    crop_scale: tuple[float, float] = (0.9, 1.0)
    loader_workers: int = 1
    seed: int = 0
    model_config: Path = MODEL_CONFIG

    def arguments(self, csv_path: Path, samples: int, logs: Path) -> list[str]:
        """The command line for open_clip's trainer."""
        steps = self.epochs * (samples // self.batch_size)
        options = {
            "train-data": csv_path,
            "dataset-type": "csv",
            "csv-img-key": IMAGE_COLUMN,
            "csv-caption-key": CAPTION_COLUMN,
            "model": MODEL_NAME,
            "device": "cpu",
            "precision": "fp32",
            "logs": logs,
            "name": self.name,
            "epochs": self.epochs,
            "save-frequency": 1,
            "batch-size": self.batch_size,
            "lr": self.lr,
            "wd": self.weight_decay,
            "warmup": max(1, round(self.warmup_share * steps)),
            "grad-clip-norm": 1.0,
            "workers": self.loader_workers,
            "seed": self.seed,
            "image-resize-mode": RESIZE_MODE,
            "aug-cfg": f"scale={self.crop_scale}",
            "log-every-n-steps": 10,
        }
        return [word for option, value in options.items() for word in (f"--{option}", str(value))]


def train(pool: Path, logs: Path, training: Training) -> Path:
    """Train on the pool's usable samples and return the run directory; refuses to overwrite an earlier one."""
    directory = logs / training.name
    if directory.exists():
        raise FileExistsError(f"{directory} holds an earlier training; choose another name")
    with tempfile.TemporaryDirectory() as temporary:
        csv_path, samples = extract_csv(pool, Path(temporary))
        if samples < training.batch_size:
            raise ValueError(f"{samples} usable samples do not fill one batch of {training.batch_size}")
        _register_model(training.model_config, Path(temporary))
        directory.mkdir(parents=True)
        _write_architecture(training.model_config, directory)
        with training_progress(training.epochs), _one_thread():
            open_clip_train(training.arguments(csv_path, samples, logs))
    return directory


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread beside the loader's process: two threads on two busy cores were up to 20 times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _register_model(config: Path, directory: Path) -> None:
    """Make the architecture known to open_clip, which names a model after its file."""
    copy = directory / f"{MODEL_NAME}.json"
    shutil.copyfile(config, copy)
    open_clip.add_model_config(copy)


def _write_architecture(config: Path, directory: Path) -> None:
    model = json.loads(config.read_text())
    preprocess = PreprocessCfg(size=model["vision_cfg"]["image_size"], resize_mode=RESIZE_MODE)
    architecture = {"model_cfg": model, "preprocess_cfg": asdict(preprocess)}
    (directory / "open_clip_config.json").write_text(json.dumps(architecture, indent=4) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo.train", description="Train a small CLIP on a pool.")
    usual = Training()
    parser.add_argument("pool_dir", type=Path)
    parser.add_argument("logs_dir", type=Path)
    parser.add_argument("--name", default=usual.name)
    parser.add_argument("--epochs", type=int, default=usual.epochs)
    parser.add_argument("--seed", type=int, default=usual.seed)
    options = parser.parse_args()
    started = time.monotonic()
    training = Training(name=options.name, epochs=options.epochs, seed=options.seed)
    try:
        directory = train(options.pool_dir, options.logs_dir, training)
    except (FileExistsError, FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    seconds = time.monotonic() - started
    Console().print(f"{options.epochs} checkpoints in {directory / 'checkpoints'} after {seconds:.0f} s")


if __name__ == "__main__":
    main()
