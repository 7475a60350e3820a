"""A run's checkpoints: found in order, with step, learning rate and architecture, and where each was learnt."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip_train import scheduler

from coreset.errors import CheckpointUnusable
from coreset.schemas.plan import PlannedCheckpoint, PlannedModel
from coreset.spec.checkpoints import CheckpointFile, CheckpointsSpec
from coreset.spec.model import ModelSpec
from coreset_workers.checkpoints.architecture import resolve_model
from coreset_workers.checkpoints.files import load
from coreset_workers.checkpoints.optimizer import adam_preconditioner
from coreset_workers.checkpoints.run import find, plan_checkpoints
from coreset_workers.checkpoints.schedule import schedule_from
from demo.pool import write_pool
from demo.train import Training, train

PER_EPOCH, WARMUP, BASE = 10, 7, 2e-3
CONFIG = {"embed_dim": 8, "vision_cfg": {"image_size": 32}, "text_cfg": {"context_length": 16}}
SPEC = ModelSpec(config=CONFIG)
TINY: dict[str, Any] = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}
PARAMS: dict[str, object] = {
    "accum_freq": 1,
    "batch_size": 64,
    "epochs": 4,
    "epochs_cooldown": None,
    "force_context_length": None,
    "force_image_size": None,
    "force_quick_gelu": False,
    "image_mean": None,
    "lr": BASE,
    "lr_cooldown_end": 0.0,
    "lr_cooldown_power": 1.0,
    "lr_scheduler": "cosine",
    "model": "ViT-B-32",
    "name": "a: b",
    "pretrained": "",
    "siglip": False,
    "skip_scheduler": False,
    "train_num_samples": None,
    "warmup": WARMUP,
    "workers": 1,
    "world_size": 1,
}

Adjuster = Callable[[int], float]


def real_schedule(kind: str, total: int, cooldown: int = 0, power: float = 1.0, end: float = 0.0) -> Adjuster:
    """open_clip's own scheduler on an optimiser that does nothing."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    if kind == "const-cooldown":
        return scheduler.const_lr_cooldown(optimizer, BASE, WARMUP, total, cooldown, power, end)
    return {"cosine": scheduler.cosine_lr, "const": scheduler.const_lr}[kind](optimizer, BASE, WARMUP, total)


COSINE = real_schedule("cosine", 4 * PER_EPOCH)


def as_text(params: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in params.items()}


def write_params(directory: Path, **changes: object) -> None:
    """params.txt as open_clip's trainer writes it."""
    lines = [f"{name}: {value}\n" for name, value in sorted((PARAMS | changes).items())]
    (directory / "params.txt").write_text("".join(lines))


def optimizer_state(step: int, lr: float) -> dict[str, Any]:
    state = {"step": torch.tensor(float(step)), "exp_avg": torch.zeros(2), "exp_avg_sq": torch.ones(2)}
    return {"state": {0: state}, "param_groups": [{"lr": lr, "params": [0]}]}


def write_checkpoint(path: Path, **content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": {"a": torch.ones(2)}, **content}, path)
    return path


def write_epoch(run: Path, epoch: int, schedule: Adjuster = COSINE) -> Path:
    """A checkpoint as the trainer leaves it at the end of an epoch: its lr is that of the step just done."""
    step = epoch * PER_EPOCH
    optimizer = optimizer_state(step, schedule(step - 1))
    return write_checkpoint(run / "checkpoints" / f"epoch_{epoch}.pt", epoch=epoch, optimizer=optimizer)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of four epochs, two of them saved."""
    write_params(tmp_path)
    write_epoch(tmp_path, 2)
    write_epoch(tmp_path, 4)
    return tmp_path


def planned(run: Path, **spec: Any) -> list[PlannedCheckpoint]:
    found = plan_checkpoints(CheckpointsSpec(run=str(run), **spec), SPEC)
    assert [warning for warning in found.warnings if "no optimizer state" not in warning] == []
    return found.checkpoints


def planned_files(*files: CheckpointFile) -> list[PlannedCheckpoint]:
    return plan_checkpoints(CheckpointsSpec(files=list(files)), SPEC).checkpoints


def names(run: Path, **spec: Any) -> list[str]:
    return [Path(file.uri).name for file in find(CheckpointsSpec(run=str(run), **spec)).files]


def empty_files(directory: Path, *epochs: object) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for epoch in epochs:
        (directory / f"epoch_{epoch}.pt").touch()


def test_checkpoints_come_in_the_order_of_their_numbers_without_the_latest(tmp_path: Path) -> None:
    empty_files(tmp_path / "checkpoints", 10, 9, 1, 100, "latest", "9_ema", "x")
    assert names(tmp_path) == ["epoch_1.pt", "epoch_9.pt", "epoch_10.pt", "epoch_100.pt"]
    assert names(tmp_path, last=2) == ["epoch_10.pt", "epoch_100.pt"]
    assert names(tmp_path, last=9) == names(tmp_path)


def test_the_latest_is_taken_when_it_is_alone(tmp_path: Path) -> None:
    empty_files(tmp_path / "checkpoints", "latest")
    assert names(tmp_path) == ["epoch_latest.pt"]


@pytest.mark.parametrize("end", ["", "/", "/checkpoints", "/checkpoints/"])
def test_the_run_and_its_checkpoints_directory_mean_the_same(run: Path, end: str) -> None:
    found = find(CheckpointsSpec(run=f"{run}{end}"))
    assert (found.directory, found.params["name"]) == (str(run), "a: b")
    assert [file.uri for file in found.files] == [f"{run}/checkpoints/epoch_{epoch}.pt" for epoch in (2, 4)]


def test_checkpoints_may_lie_beside_params(tmp_path: Path) -> None:
    empty_files(tmp_path, 1, 2)
    assert names(tmp_path) == ["epoch_1.pt", "epoch_2.pt"]


def test_relative_files_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = [CheckpointFile(uri=f"{name}.pt", step=step, lr=0.1) for step, name in enumerate("abc", start=1)]
    found = find(CheckpointsSpec(files=files, last=2))
    assert [(file.uri, file.step, file.lr) for file in found.files] == [
        (f"{tmp_path}/b.pt", 2, 0.1),
        (f"{tmp_path}/c.pt", 3, 0.1),
    ]
    assert (found.directory, found.params) == (None, {})


@pytest.mark.parametrize("name", ["", "no_such_run"])
def test_a_directory_without_checkpoints_is_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointUnusable, match=r"has no checkpoints/epoch_K\.pt.*--save-frequency 1"):
        find(CheckpointsSpec(run=str(tmp_path / name)))


def test_a_trainers_run_is_planned_from_its_own_files(run: Path) -> None:
    seen: list[None] = []
    found = plan_checkpoints(CheckpointsSpec(run=str(run)), None, lambda: seen.append(None))
    checkpoints, model, warnings = found.checkpoints, found.model, found.warnings
    assert [(c.index, c.uri, c.epoch, c.optimizer) for c in checkpoints] == [
        (0, f"{run}/checkpoints/epoch_2.pt", 2, "adamw"),
        (1, f"{run}/checkpoints/epoch_4.pt", 4, "adamw"),
    ]
    assert [(c.step.value, c.step.source) for c in checkpoints] == [(20, "optimizer state"), (40, "optimizer state")]
    assert [(c.lr.value, c.lr.source) for c in checkpoints] == [
        (COSINE(19), "optimizer state"),
        (COSINE(39), "optimizer state"),
    ]
    assert [c.lr_sum.source for c in checkpoints] == ["params.txt"] * 2
    assert [c.lr_sum.value for c in checkpoints] == pytest.approx(
        [math.fsum(map(COSINE, range(20))), math.fsum(map(COSINE, range(20, 40)))]
    )
    assert all(c.size == Path(c.uri).stat().st_size and len(c.sha256) == 64 for c in checkpoints)
    assert (model.name, model.source) == ("ViT-B-32", "params.txt")
    assert warnings == []
    assert len(seen) == 2


def test_the_last_checkpoints_count_the_steps_before_them(run: Path) -> None:
    (last,) = planned(run, last=1)
    assert (last.index, last.epoch) == (0, 4)
    assert last.lr_sum.value == pytest.approx(math.fsum(map(COSINE, range(40))))


def test_the_spec_overrides_what_a_file_says(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "a.pt", epoch=1, optimizer=optimizer_state(10, 0.5))
    (one,) = planned_files(CheckpointFile(uri=str(path), step=7, lr=0.25))
    assert [(found.value, found.source) for found in (one.step, one.lr)] == [(7, "spec"), (0.25, "spec")]


def test_the_global_step_goes_before_the_optimizer(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "a.pt", global_step=12, optimizer=optimizer_state(10, 0.5))
    (one,) = planned_files(CheckpointFile(uri=str(path)))
    assert [(found.value, found.source) for found in (one.step, one.lr)] == [
        (12, "global_step"),
        (0.5, "optimizer state"),
    ]


@pytest.mark.parametrize(
    ("params", "steps"),
    [
        ({"train_num_samples": 640, "batch_size": 64}, 10),
        ({"train_num_samples": 641, "batch_size": 64}, 11),  # a batch begun is a batch
        ({"train_num_samples": 641, "batch_size": 64, "workers": 4}, 12),  # every loader process gives as many
        ({"train_num_samples": 641, "batch_size": 16, "world_size": 4, "workers": 0}, 11),
        ({"train_num_samples": 641, "batch_size": 64, "accum_freq": 2}, 5),
    ],
)
def test_without_an_optimizer_step_and_lr_are_counted_from_params(
    tmp_path: Path, params: dict[str, object], steps: int
) -> None:
    write_params(tmp_path, **params)
    for epoch in (1, 2):
        write_checkpoint(tmp_path / "checkpoints" / f"epoch_{epoch}.pt", epoch=epoch)
    first, second = planned(tmp_path)
    lr = real_schedule("cosine", 4 * steps)
    assert [(c.step.value, c.step.source) for c in (first, second)] == [
        (steps, "params.txt"),
        (2 * steps, "params.txt"),
    ]
    assert [c.lr.source for c in (first, second)] == ["params.txt"] * 2
    assert [c.lr.value for c in (first, second)] == pytest.approx([lr(steps - 1), lr(2 * steps - 1)])
    assert first.optimizer is None


def test_learning_rates_that_differ_from_params_are_told_and_interpolated(run: Path) -> None:
    write_params(run, lr=3 * BASE)
    found = plan_checkpoints(CheckpointsSpec(run=str(run)), SPEC)
    checkpoints, warnings = found.checkpoints, found.warnings
    assert [c.lr.value for c in checkpoints] == [COSINE(19), COSINE(39)]
    assert [(c.lr_sum.value, c.lr_sum.source) for c in checkpoints] == [
        (20 * COSINE(19), "interpolated"),
        (20 * (COSINE(19) + COSINE(39)) / 2, "interpolated"),
    ]
    assert len(warnings) == 1
    assert "epoch_2.pt holds lr" in warnings[0]
    assert "are interpolated" in warnings[0]


def test_without_params_the_learning_rates_are_interpolated(tmp_path: Path) -> None:
    write_epoch(tmp_path, 1)
    assert [c.lr_sum.source for c in planned(tmp_path)] == ["interpolated"]


SCHEDULES = [
    ("cosine", {}, {}),
    ("const", {}, {}),
    ("const-cooldown", {"epochs_cooldown": 2}, {"cooldown": 20}),
    (
        "const-cooldown",
        {"epochs_cooldown": 1, "lr_cooldown_power": 2.5, "lr_cooldown_end": 1e-5},
        {"cooldown": 10, "power": 2.5, "end": 1e-5},
    ),
    ("const-cooldown", {"epochs_cooldown": 4}, {"cooldown": 40}),  # cooling from the first step, warming up first
]


@pytest.mark.parametrize(("kind", "params", "arguments"), SCHEDULES)
def test_the_schedule_is_open_clips_at_every_step(
    kind: str, params: dict[str, object], arguments: dict[str, Any]
) -> None:
    total = 4 * PER_EPOCH
    ours = schedule_from(as_text(PARAMS | {"lr_scheduler": kind} | params), total)
    real = real_schedule(kind, total, **arguments)
    assert ours is not None
    assert [ours(step) for step in range(total)] == pytest.approx([real(step) for step in range(total)], rel=1e-12)


def test_a_warmup_longer_than_the_run_is_open_clips_too() -> None:
    ours, real = schedule_from(as_text(PARAMS), WARMUP - 2), real_schedule("cosine", WARMUP - 2)
    assert ours is not None
    assert [ours(step) for step in range(WARMUP - 2)] == [real(step) for step in range(WARMUP - 2)]


def test_without_a_scheduler_the_rate_is_the_base_from_the_first_step() -> None:
    ours = schedule_from(as_text(PARAMS | {"skip_scheduler": True}), 40)
    assert ours is not None
    assert {ours(step) for step in range(40)} == {BASE}


@pytest.mark.parametrize("missing", ["lr", "warmup"])
def test_without_lr_or_warmup_there_is_no_schedule(missing: str) -> None:
    params = as_text(PARAMS)
    del params[missing]
    assert schedule_from(params, 40) is None


@pytest.mark.parametrize(("kind", "params", "arguments"), SCHEDULES)
def test_every_kind_of_run_is_planned_by_its_schedule(
    tmp_path: Path, kind: str, params: dict[str, object], arguments: dict[str, Any]
) -> None:
    write_params(tmp_path, lr_scheduler=kind, **params)
    real = real_schedule(kind, 4 * PER_EPOCH, **arguments)
    for epoch in (1, 2, 3, 4):
        write_epoch(tmp_path, epoch, real)
    checkpoints = planned(tmp_path)
    assert [c.lr_sum.value for c in checkpoints] == pytest.approx(
        [math.fsum(map(real, range(10 * k, 10 * k + 10))) for k in range(4)]
    )


def test_a_run_that_was_resumed_beyond_its_epochs_is_planned(tmp_path: Path) -> None:
    write_params(tmp_path, epochs=2, lr_scheduler="const")
    const = real_schedule("const", 2 * PER_EPOCH)
    for epoch in (1, 2, 3):
        write_epoch(tmp_path, epoch, const)
    assert planned(tmp_path)[-1].lr_sum.value == pytest.approx(10 * BASE)


@pytest.mark.parametrize("steps", [(10, 10), (20, 10)])
def test_checkpoints_out_of_order_are_refused_by_name(tmp_path: Path, steps: tuple[int, int]) -> None:
    files = [
        CheckpointFile(uri=str(write_checkpoint(tmp_path / f"{i}.pt", optimizer=optimizer_state(step, 0.1))))
        for i, step in enumerate(steps)
    ]
    with pytest.raises(CheckpointUnusable, match=r"1\.pt \(step 10\) does not come after .*0\.pt \(step"):
        planned_files(*files)


def test_a_checkpoint_without_a_step_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "a.pt", epoch=3)
    with pytest.raises(CheckpointUnusable, match=r"a\.pt records no step.*Give `step` and `lr`"):
        planned_files(CheckpointFile(uri=str(path), lr=0.1))


def test_a_checkpoint_without_a_learning_rate_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "a.pt", epoch=3)
    with pytest.raises(CheckpointUnusable, match=r"a\.pt records no learning rate.*Give `lr`"):
        planned_files(CheckpointFile(uri=str(path), step=10))


def resolved(spec: ModelSpec | None, run: Path) -> PlannedModel:
    empty_files(run / "checkpoints", 1)
    found = find(CheckpointsSpec(run=str(run)))
    return resolve_model(spec, found.directory, found.params)


def test_without_params_and_model_the_architecture_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnusable, match=r"no params\.txt\. Give `model`"):
        resolved(None, tmp_path)


def test_an_architecture_that_open_clip_does_not_know_is_refused_by_name(tmp_path: Path) -> None:
    write_params(tmp_path, model="my-ViT")
    with pytest.raises(CheckpointUnusable, match=r"my-ViT. is not an architecture.*open_clip_config\.json") as caught:
        resolved(None, tmp_path)
    assert caught.value.data == {"model": "my-ViT"}


def test_the_architecture_comes_from_the_spec_then_the_saved_config_then_params(tmp_path: Path) -> None:
    write_params(tmp_path)
    from_params = resolved(None, tmp_path)
    assert (from_params.name, from_params.source) == ("ViT-B-32", "params.txt")
    assert from_params.config == open_clip.get_model_config("ViT-B-32")
    saved = {"model_cfg": {**CONFIG, "embed_dim": 9}, "preprocess_cfg": {"size": 32, "resize_mode": "squash"}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(saved))
    from_saved = resolved(None, tmp_path)
    assert (from_saved.config["embed_dim"], from_saved.source) == (9, "open_clip_config.json")
    assert (from_saved.preprocess, from_saved.preprocess_source) == (saved["preprocess_cfg"], "run")
    by_name = resolved(ModelSpec(name="ViT-B-16"), tmp_path)
    assert (by_name.name, by_name.source) == ("ViT-B-16", "spec")
    assert by_name.config == open_clip.get_model_config("ViT-B-16")
    by_config = resolved(ModelSpec(config=CONFIG), tmp_path)
    assert (by_config.config, by_config.source) == (CONFIG, "spec")


def test_options_of_the_run_change_the_named_architecture(tmp_path: Path) -> None:
    options = {"force_image_size": 64, "force_context_length": 20, "force_quick_gelu": True, "siglip": True}
    write_params(tmp_path, **options)
    config: Any = resolved(None, tmp_path).config
    assert (config["vision_cfg"]["image_size"], config["text_cfg"]["context_length"]) == (64, 20)
    assert config["quick_gelu"] is True
    assert config["init_logit_bias"] == -10
    write_params(tmp_path, force_image_size=[64, 96])
    config = resolved(None, tmp_path).config
    assert config["vision_cfg"]["image_size"] == [64, 96]


def test_the_preprocessing_of_the_run_is_kept(tmp_path: Path) -> None:
    write_params(tmp_path, image_mean=(0.5, 0.5, 0.5), image_std=[0.1, 0.2, 0.3], image_resize_mode="squash")
    found = resolved(None, tmp_path)
    assert found.preprocess == {"mean": [0.5, 0.5, 0.5], "std": [0.1, 0.2, 0.3], "resize_mode": "squash"}
    assert found.preprocess_source == "run"
    write_params(tmp_path)
    assert resolved(None, tmp_path).preprocess_source == "open_clip defaults"


@pytest.mark.parametrize(
    ("content", "why"), [("{", "is not valid JSON"), ("[]", "holds no JSON object"), ('"text"', "holds no JSON object")]
)
def test_a_saved_config_that_cannot_be_read_is_refused(tmp_path: Path, content: str, why: str) -> None:
    write_params(tmp_path)
    (tmp_path / "open_clip_config.json").write_text(content)
    with pytest.raises(CheckpointUnusable, match=rf"open_clip_config\.json {why}"):
        resolved(None, tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of open_clip's own trainer: two epochs of three steps."""
    directory = tmp_path_factory.mktemp("training")
    config = directory / "tiny.json"
    config.write_text(json.dumps(TINY))
    write_pool(directory / "pool", samples=64, shards=2)
    training = Training(name="tiny", epochs=2, batch_size=16, loader_workers=0, model_config=config)
    return train(directory / "pool", directory / "logs", training)


def test_a_real_training_is_understood_without_a_word_of_ours(trained: Path) -> None:
    found = plan_checkpoints(CheckpointsSpec(run=str(trained)), None)
    checkpoints, model, warnings = found.checkpoints, found.model, found.warnings
    params = find(CheckpointsSpec(run=str(trained))).params
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    real = scheduler.cosine_lr(optimizer, float(params["lr"]), int(params["warmup"]), 6)
    assert [(c.step.value, c.lr.value) for c in checkpoints] == [(3, real(2)), (6, real(5))]
    assert [c.lr_sum.value for c in checkpoints] == pytest.approx([sum(map(real, s)) for s in ((0, 1, 2), (3, 4, 5))])
    assert [c.lr_sum.source for c in checkpoints] == ["params.txt"] * 2
    assert (model.name, model.source, model.config) == ("demo-ViT-16", "open_clip_config.json", TINY)
    assert model.preprocess["resize_mode"] == "squash"
    assert warnings == []


def test_a_real_trainings_preconditioner_is_found_for_every_parameter(trained: Path) -> None:
    checkpoint = load(str(trained / "checkpoints" / "epoch_2.pt"))
    module = open_clip.CLIP(**TINY)
    module.load_state_dict(checkpoint.state_dict)
    shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
    found = adam_preconditioner(checkpoint.optimizer, shapes, list(shapes))
    assert found is not None
    assert found.keys() == shapes.keys()
    words = found["token_embedding.weight"]
    unused = (words == 0).all(1).float().mean()
    assert 0.99 < unused < 1  # words that no caption has never got a gradient
    assert words.max().item() <= 1 / float(find(CheckpointsSpec(run=str(trained))).params["eps"])
