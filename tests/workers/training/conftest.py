"""A trained run of the tiny pool, in one go."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from coreset.schemas.plan import PlannedModel
from coreset.schemas.training import TrainedRun, TrainingPlan
from coreset.spec.job import JobSpec
from coreset.storage.runs import find_run
from coreset.storage.storage import Storage
from coreset_workers.stages.train_run import new_training_plan
from coreset_workers.training.decoded import DecodedSamples
from coreset_workers.training.samples import TrainingData
from coreset_workers.training.train import RunTrainer
from tests.conftest import TINY_MODEL
from tests.workers.conftest import TINY

CPU = torch.device("cpu")
TRAIN: dict[str, Any] = {
    "samples_seen": 16 * 12,
    "batch_size": 16,
    "checkpoints": 3,
    "lr": 3e-3,
    "model": {"config": TINY_MODEL},
}

Trainer = Callable[[Storage], RunTrainer]


@pytest.fixture(scope="session")
def train_spec(tiny_pool: Path) -> JobSpec:
    """The spec of a job that trains its run: 12 steps at most."""
    return JobSpec.model_validate(
        {
            "pool": {"shards": [str(tiny_pool / "{000000..000005}.tar")]},
            "checkpoints": {"train": TRAIN},
            "reference": {"size": 24},
            "select": {"k": 40},
        }
    )


@pytest.fixture(scope="session")
def training_plan(train_spec: JobSpec) -> TrainingPlan:
    """The plan of the spec, with a model of few words: its checkpoints are small."""
    plan = new_training_plan(train_spec, CPU, 10**6)
    return plan.model_copy(update={"model": PlannedModel(name="tiny", config=TINY, source="spec")})


@pytest.fixture(scope="session")
def training_data() -> TrainingData:
    """Samples of one colour, which their captions name."""
    return TrainingData(coloured(range(144)), coloured(range(144, 160)), "a held-out share of the pool")


def coloured(numbers: Iterable[int]) -> DecodedSamples:
    draws = torch.Generator().manual_seed(0)
    rows = list(numbers)
    kinds = torch.tensor(rows) % 8
    images = (kinds[:, None, None, None] * 30 + torch.randint(0, 20, (len(rows), 3, 32, 32), generator=draws)).byte()
    tokens = torch.stack([torch.full((24,), int(kind) + 1) for kind in kinds])
    return DecodedSamples([f"{row:032x}" for row in rows], [f"colour {kind}" for kind in kinds], images, tokens)


@pytest.fixture(scope="session")
def trainer(training_plan: TrainingPlan, training_data: TrainingData) -> Trainer:
    return lambda storage: RunTrainer(training_plan, storage, training_data, CPU, lambda words, fraction: None)


@pytest.fixture(scope="session")
def trained_storage(trainer: Trainer, tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """A storage with the run, trained without a break."""
    storage = Storage(str(tmp_path_factory.mktemp("trained")))
    assert trainer(storage).train()
    return storage


@pytest.fixture(scope="session")
def trained_run(trained_storage: Storage, training_plan: TrainingPlan) -> TrainedRun:
    run = find_run(trained_storage, training_plan.id)
    assert run is not None
    return run
