"""Checkpoint files: what is in them is found, what is wrong with them is said, and nothing in them is run."""

import hashlib
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from coreset.errors import CheckpointUnusable
from coreset_workers.checkpoints.files import inspect, load, sha256
from coreset_workers.checkpoints.optimizer import adam_preconditioner, optimizer_lr, optimizer_step

EXCLUDED = ("bn", "ln", "bias", "logit_scale")
"""Words in the names of parameters that open_clip's trainer leaves without weight decay, as vectors are."""


class Tiny(nn.Module):
    """Has every kind of name that the group orders tell apart, in an order that is neither group's."""

    def __init__(self) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(3, 4))
        self.linear = nn.Linear(4, 4)
        self.logit_scale = nn.Parameter(torch.tensor(1.0))
        self.ln_matrix = nn.Parameter(torch.randn(4, 4))
        self.projection = nn.Parameter(torch.randn(4, 4))
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.linear(x + self.positional_embedding) @ self.ln_matrix)
        return self.logit_scale * hidden @ self.projection


def groups_of_two(model: nn.Module) -> list[dict[str, Any]]:
    """The parameter groups of open_clip's trainer up to 3.x."""
    excluded = [n for n, p in model.named_parameters() if p.ndim < 2 or any(word in n for word in EXCLUDED)]
    by_name = dict(model.named_parameters())
    return [
        {"params": [by_name[n] for n in excluded], "weight_decay": 0.0},
        {"params": [p for n, p in by_name.items() if n not in excluded], "weight_decay": 0.2},
    ]


def named_groups(*order: str) -> Any:
    """The parameter groups of newer trainers, which carry their names."""

    def groups(model: nn.Module) -> list[dict[str, Any]]:
        found: dict[str, list[Tensor]] = {"no_wd": [], "wd": []}
        for name, parameter in model.named_parameters():
            plain = parameter.ndim < 2 or name.endswith(("logit_scale", "positional_embedding"))
            found["no_wd" if plain else "wd"].append(parameter)
        decay = {"no_wd": 0.0, "wd": 0.2}
        return [{"params": found[name], "weight_decay": decay[name], "group_name": name} for name in order]

    return groups


def trained(groups: Any = groups_of_two, steps: int = 3) -> tuple[Tiny, torch.optim.AdamW]:
    """A tiny model after a few steps of a real AdamW."""
    torch.manual_seed(0)
    model = Tiny()
    optimizer = torch.optim.AdamW(groups(model), lr=1e-2, betas=(0.9, 0.98), eps=1e-6)
    for step in range(steps):
        optimizer.zero_grad()
        (model(torch.randn(5, 3, 4)) ** 2).mean().backward()
        optimizer.param_groups[1]["lr"] = 1e-2 / (step + 1)
        optimizer.step()
    return model, optimizer


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in model.named_parameters()}


def preconditioner(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor] | None:
    return adam_preconditioner(optimizer.state_dict(), shapes(model), shapes(model))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "epoch_3.pt"


def unusable(path: Path) -> str:
    details = set()
    for read in (load, inspect):
        with pytest.raises(CheckpointUnusable) as caught:
            read(str(path))
        assert caught.value.data == {"uri": str(path)}
        assert caught.value.detail.startswith(f"{path} ")
        details.add(caught.value.detail)
    assert len(details) == 1
    return details.pop()


def test_a_trainers_checkpoint_is_read_with_all_that_it_tells(path: Path) -> None:
    model, optimizer = trained()
    content = {"epoch": 3, "name": "run", "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**content, "global_step": 12, "scaler": {}}, path)
    found = load(str(path))
    assert (found.uri, found.epoch, found.global_step) == (str(path), 3, 12)
    torch.testing.assert_close(found.state_dict, dict(model.state_dict()), rtol=0, atol=0)
    assert optimizer_step(found.optimizer) == 3
    assert optimizer_lr(found.optimizer) == 1e-2
    assert adam_preconditioner(found.optimizer, shapes(model), shapes(model)) is not None


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_look_tells_all_but_the_numbers(path: Path, as_zip: bool) -> None:
    model, optimizer = trained()
    state = optimizer.state_dict()
    for number, one in enumerate(state["state"].values()):
        one["step"] = torch.arange(9.0)[number + 1]  # a view into a storage that they share
    content = {"epoch": 3, "state_dict": model.state_dict(), "optimizer": state}
    torch.save({**content, "global_step": 12}, path, _use_new_zipfile_serialization=as_zip)
    found = inspect(str(path))
    assert (found.uri, found.epoch, found.global_step) == (str(path), 3, 12)
    assert {name: value.shape for name, value in found.state_dict.items()} == {
        name: value.shape for name, value in model.state_dict().items()
    }
    assert found.optimizer is not None
    assert [int(one["step"]) for one in found.optimizer["state"].values()] == list(range(1, 1 + len(state["state"])))
    assert (optimizer_step(found.optimizer), optimizer_lr(found.optimizer)) == (len(state["state"]), 1e-2)


def test_a_look_reads_little_of_a_large_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {n: {"step": torch.tensor(7.0), "exp_avg_sq": torch.ones(1 << 18)} for n in range(20)}
    torch.save({"state_dict": {"a": torch.ones(1 << 20)}, "optimizer": {"state": state}}, path)
    read = 0

    class Counted(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            nonlocal read
            count = super().readinto(buffer)
            read += count
            return count

        def read(self, size: int = -1) -> bytes:
            nonlocal read
            found = super().read(size)
            read += len(found)
            return found

    monkeypatch.setattr("coreset_workers.checkpoints.files.open_file", Counted)
    assert optimizer_step(inspect(str(path)).optimizer) == 7
    assert 0 < read < path.stat().st_size / 100
    load(str(path))
    assert read > path.stat().st_size


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."]
)
def test_prefixes_of_ddp_and_compile_are_stripped(path: Path, prefix: str) -> None:
    torch.save({"state_dict": {f"{prefix}visual.module.weight": torch.ones(2)}}, path)
    assert list(load(str(path)).state_dict) == ["visual.module.weight"]


def test_bare_weights_tell_neither_step_nor_optimizer(path: Path) -> None:
    torch.save(Tiny().state_dict(), path)
    found = load(str(path))
    assert (found.optimizer, found.epoch, found.global_step) == (None, None, None)
    assert found.state_dict.keys() == shapes(Tiny()).keys()


def test_safetensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({"module.a": torch.arange(3.0)}, path)
    found = load(str(path))
    assert found.state_dict["a"].tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-4])
    assert "may be cut off" in unusable(path)


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


def test_a_compressed_zip_is_refused_before_it_is_unpacked(path: Path) -> None:
    plain, packed = io.BytesIO(), path
    torch.save({"state_dict": {"w": torch.zeros(1 << 20)}}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    with pytest.raises(CheckpointUnusable, match="is compressed"):
        load(str(path))


@pytest.mark.parametrize("as_zip", [True, False])
def test_pickled_code_is_refused_and_not_run(path: Path, tmp_path: Path, as_zip: bool) -> None:
    target = tmp_path / "was_run"
    content = {"state_dict": {"a": torch.ones(1)}, "args": Payload(target)}
    torch.save(content, path, _use_new_zipfile_serialization=as_zip)
    assert "would run code" in unusable(path)
    path.write_bytes(pickle.dumps(content))
    assert "would run code" in unusable(path)
    assert not target.exists()


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.9, 0.999])
def test_a_cut_file_is_refused(path: Path, share: float, as_zip: bool) -> None:
    model, optimizer = trained()
    content = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(content, path, _use_new_zipfile_serialization=as_zip)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "cut off" in unusable(path) or "no checkpoint" in unusable(path)


@given(st.binary(max_size=200), st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x05\x95"]))
@settings(deadline=None, max_examples=50)
def test_noise_is_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes, start: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.pt"
    path.write_bytes(start + noise)
    unusable(path)
    path = path.with_suffix(".safetensors")
    path.write_bytes(start + noise)
    unusable(path)


def test_a_file_that_is_not_there_is_named(path: Path) -> None:
    assert unusable(path).endswith("does not exist")


def test_a_directory_is_refused_with_the_way_out(path: Path) -> None:
    path.mkdir()
    assert "(FSDP)" in unusable(path)


@pytest.mark.parametrize("content", [[1, 2], torch.ones(2), 17])
def test_what_is_no_dict_is_refused(path: Path, content: object) -> None:
    torch.save(content, path)
    assert f"contains a {type(content).__name__}, not a checkpoint" in unusable(path)


@pytest.mark.parametrize(
    "content",
    [
        {"epoch": 3, "state_dict": {"a": 1}},
        {"epoch": 3, "state_dict": [torch.ones(1)]},
        {"epoch": 3, "weights": {"a": torch.ones(1)}},
        {3: torch.ones(1), "epoch": 3},
        {3: torch.ones(1)},
    ],
)
def test_a_dict_without_tensors_by_name_is_refused_with_its_keys(path: Path, content: object) -> None:
    torch.save(content, path)
    assert "contains no state_dict of tensors (its keys: " in unusable(path)


def test_sha256_and_size_are_the_files(path: Path) -> None:
    content = bytes(range(256)) * 40_000
    path.write_bytes(content)
    assert sha256(str(path)) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("optimizer", [None, {}, {"state": {}, "param_groups": []}, {"state": {0: {}, 1: None}}])
def test_without_adams_state_nothing_is_told(optimizer: dict[str, Any] | None) -> None:
    assert optimizer_step(optimizer) is None
    assert optimizer_lr(optimizer) is None
    assert adam_preconditioner(optimizer, {"a": torch.Size([1])}, ["a"]) is None


def test_step_and_lr_are_the_largest() -> None:
    state = {0: {"step": torch.tensor(4.0)}, 1: {"step": 7}, 2: {}}
    assert optimizer_step({"state": state}) == 7
    assert optimizer_lr({"param_groups": [{"lr": 1e-4}, {"lr": torch.tensor(0.5)}, {}]}) == 0.5


@pytest.mark.parametrize("groups", [groups_of_two, named_groups("no_wd", "wd"), named_groups("wd", "no_wd")])
def test_the_preconditioner_is_adams_in_every_known_order(groups: Any) -> None:
    model, optimizer = trained(groups)
    found = preconditioner(optimizer, model)
    expected = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        assert state["step"] == 3
        v_hat = state["exp_avg_sq"] / (1 - 0.98**3)
        expected[name] = 1 / (v_hat.sqrt() + 1e-6)
    assert found is not None
    torch.testing.assert_close(found, expected)


def test_the_preconditioner_is_what_a_step_of_adam_multiplies_the_momentum_by() -> None:
    model, optimizer = trained(steps=2)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer.zero_grad()
    (model(torch.randn(5, 3, 4)) ** 2).mean().backward()
    optimizer.step()
    found = preconditioner(optimizer, model)
    assert found is not None
    for group in optimizer.param_groups:
        for name, parameter in model.named_parameters():
            if any(parameter is member for member in group["params"]):
                momentum = optimizer.state[parameter]["exp_avg"] / (1 - 0.9**3)
                kept = before[name] * (1 - group["lr"] * group["weight_decay"])
                torch.testing.assert_close(parameter, kept - group["lr"] * found[name] * momentum)


def test_where_adam_has_never_seen_a_gradient_p_is_0() -> None:
    model, optimizer = trained()
    optimizer.state[model.linear.weight]["exp_avg_sq"][0] = 0
    found = preconditioner(optimizer, model)
    assert found is not None
    assert not found["linear.weight"][0].any()
    assert found["linear.weight"][1:].all()


def test_frozen_parameters_are_left_out_of_the_order() -> None:
    model, optimizer = trained(
        lambda model: [
            {**group, "params": [p for p in group["params"] if p is not model.linear.weight]}
            for group in groups_of_two(model)
        ]
    )
    wanted = {name: shape for name, shape in shapes(model).items() if name != "linear.weight"}
    found = adam_preconditioner(optimizer.state_dict(), wanted, wanted)
    assert found is not None
    assert found.keys() == wanted.keys()
    assert preconditioner(optimizer, model) is None


def test_an_order_that_does_not_fit_tells_no_preconditioner() -> None:
    model, optimizer = trained(lambda model: [{"params": list(model.parameters())}, {"params": []}])
    assert preconditioner(optimizer, model) is None
    model, optimizer = trained(lambda model: [*groups_of_two(model), {"params": [nn.Parameter(torch.ones(1))]}])
    assert preconditioner(optimizer, model) is None


def test_plain_sgd_tells_no_preconditioner() -> None:
    model = Tiny()
    optimizer = torch.optim.SGD(groups_of_two(model), lr=0.1, momentum=0.9)
    model(torch.randn(5, 3, 4)).mean().backward()
    optimizer.step()
    assert preconditioner(optimizer, model) is None
    assert optimizer_lr(optimizer.state_dict()) == 0.1


def test_a_parameter_that_is_not_counted_needs_no_state() -> None:
    model, optimizer = trained()
    state = optimizer.state_dict()
    names = [
        n for group in groups_of_two(model) for p in group["params"] for n, q in model.named_parameters() if q is p
    ]
    del state["state"][names.index("projection")]
    assert adam_preconditioner(state, shapes(model), shapes(model)) is None
    found = adam_preconditioner(state, shapes(model), ["linear.weight"])
    assert found is not None
    assert found.keys() == {"linear.weight"}


def test_a_preconditioner_that_is_not_finite_is_none() -> None:
    model, optimizer = trained()
    for group in optimizer.param_groups:
        group["eps"] = 0.0
    state = optimizer.state_dict()
    state["state"][0]["exp_avg_sq"].fill_(float("nan"))
    assert adam_preconditioner(state, shapes(model), shapes(model)) is None
    for one in state["state"].values():
        one["step"] = torch.tensor(0.0)
    assert adam_preconditioner(state, shapes(model), shapes(model)) is None
