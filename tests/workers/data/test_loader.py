"""The loader: the same samples in this process and in others, cut into blocks of tensors."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg

from coreset.errors import ShardUnreadable
from coreset.schemas.part import SampleStatus
from coreset.schemas.plan import PlannedModel
from coreset_workers.data.decode import Sample
from coreset_workers.data.loader import Block, Loader
from coreset_workers.data.tar import RawSample, ShardReader
from coreset_workers.model.clip import view_functions
from demo.plan import Defect, defect_counts
from demo.pool import write_pool

SAMPLES = 60
CONFIG: dict[str, object] = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}
MODEL = PlannedModel(name="tiny", config=CONFIG, source="spec")
VIEWS = {
    "run": partial(view_functions, MODEL, PreprocessCfg(size=32)),
    "clip": partial(view_functions, MODEL, PreprocessCfg(size=20, resize_mode="squash")),
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_pool(tmp_path_factory.mktemp("pool"), SAMPLES, shards=2)


@pytest.fixture(scope="module")
def here() -> Loader:
    return Loader(VIEWS, None, processes=0)


@pytest.fixture(scope="module")
def samples(shards: list[Path], here: Loader) -> list[Sample]:
    return list(here.decode(raw(shards)))


def raw(shards: list[Path]) -> Iterator[RawSample]:
    return chain.from_iterable(ShardReader(str(shard)) for shard in shards)


def assert_equal(found: list[Sample], expected: list[Sample]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert replace(one, images={}, tokens={}) == replace(other, images={}, tokens={})
        assert one.images.keys() == other.images.keys()
        for view, image in one.images.items():
            np.testing.assert_array_equal(image, other.images[view])
            np.testing.assert_array_equal(one.tokens[view], other.tokens[view])


def test_a_pools_samples_come_in_order_with_the_status_of_their_defect(samples: list[Sample]) -> None:
    assert [sample.row for sample in samples] == [*range(30), *range(30)]
    counts = defect_counts(SAMPLES)
    statuses = [sample.status for sample in samples]
    assert statuses.count(SampleStatus.NO_IMAGE) == counts[Defect.IMAGELESS]
    assert statuses.count(SampleStatus.EMPTY_CAPTION) == counts[Defect.EMPTY]
    assert statuses.count(SampleStatus.BAD_IMAGE) == counts[Defect.BROKEN]


def test_every_view_gets_its_own_size_and_the_tokens_of_its_model(samples: list[Sample]) -> None:
    good = next(sample for sample in samples if sample.status is SampleStatus.OK)
    assert {view: (image.shape, image.dtype) for view, image in good.images.items()} == {
        "run": ((3, 32, 32), np.uint8),
        "clip": ((3, 20, 20), np.uint8),
    }
    assert {view: (tokens.shape, tokens.dtype) for view, tokens in good.tokens.items()} == {
        "run": ((16,), np.int64),
        "clip": ((16,), np.int64),
    }


def test_the_caption_field_is_passed_on(shards: list[Path]) -> None:
    found = list(Loader(VIEWS, "no_such_field", processes=0).decode(raw(shards[:1])))
    assert {sample.status for sample in found} <= {SampleStatus.NO_CAPTION, SampleStatus.NO_IMAGE}


def test_two_loaders_may_be_used_in_turns(shards: list[Path], here: Loader, samples: list[Sample]) -> None:
    other = Loader({"run": VIEWS["clip"]}, "uid", processes=0)
    pairs = list(zip(here.decode(raw(shards)), other.decode(raw(shards)), strict=True))
    assert_equal([one for one, _ in pairs], samples)
    assert all(two.caption == two.uid for _, two in pairs)
    assert {two.images["run"].shape for _, two in pairs if two.images} == {(3, 20, 20)}


def test_decoding_here_leaves_torchs_threads_as_they_are(shards: list[Path], here: Loader) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        next(here.decode(raw(shards)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


class Deadly(dict[str, bytes]):
    """Ends the process that unpickles it, as the kernel does when memory runs out."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)


@pytest.mark.slow
def test_two_processes_give_the_same_samples_also_after_one_was_killed(
    shards: list[Path], samples: list[Sample]
) -> None:
    loader = Loader(VIEWS, None, processes=2)
    try:
        assert_equal(list(loader.decode(chain(*[raw(shards) for _ in range(4)]))), samples * 4)
        with pytest.raises(ShardUnreadable):
            list(loader.decode(ShardReader(str(shards[0].parent / "missing.tar"))))
        with pytest.raises(RuntimeError, match="a loader process was killed"):
            list(loader.decode([RawSample("0.tar", "k", 0, Deadly())]))
        assert_equal(list(loader.decode(raw(shards))), samples)
    finally:
        loader.close()


def test_blocks_hold_all_samples_and_stack_the_good_ones(
    shards: list[Path], here: Loader, samples: list[Sample]
) -> None:
    (block,) = here.blocks(raw(shards), SAMPLES)
    good = [i for i, sample in enumerate(samples) if sample.status is SampleStatus.OK]
    assert block.samples == [replace(sample, images={}, tokens={}) for sample in samples]
    assert block.good == good
    assert len(good) < len(samples)
    for view in VIEWS:
        assert block.images[view].dtype == torch.uint8
        assert block.tokens[view].dtype == torch.int64
        np.testing.assert_array_equal(block.images[view].numpy(), np.stack([samples[i].images[view] for i in good]))
        np.testing.assert_array_equal(block.tokens[view].numpy(), np.stack([samples[i].tokens[view] for i in good]))


def test_blocks_start_with_a_batch_and_double_up_to_enough(
    shards: list[Path], here: Loader, samples: list[Sample]
) -> None:
    blocks = list(here.blocks(raw(shards), batch=4, most=12))
    in_blocks = [sample for block in blocks for sample in block.samples]
    assert in_blocks == [replace(sample, images={}, tokens={}) for sample in samples]
    *whole, last = [len(block.good) for block in blocks]
    assert whole == [4, 8, *[16] * (len(whole) - 2)]
    assert len(whole) > 3
    assert last <= 16
    assert all(len(block.images["run"]) == len(block.good) for block in blocks)


def test_no_samples_give_no_block(here: Loader) -> None:
    assert list(here.blocks([], 4)) == []


def test_a_block_without_a_good_sample_has_empty_tensors(here: Loader) -> None:
    block = Block.of([Sample("0" * 32, "derived", "k", 0, SampleStatus.NO_IMAGE)], here.views)
    assert block.good == []
    assert {view: len(tensor) for view, tensor in (block.images | block.tokens).items()} == {"run": 0, "clip": 0}


HELD = """
import sys
from itertools import chain
from pathlib import Path
from tests.workers.data.test_loader import VIEWS, raw
from coreset_workers.data.loader import Loader
if __name__ == "__main__":
    loader = Loader(VIEWS, None, processes=2)
    print(len(list(loader.decode(raw([Path(sys.argv[1])])))), flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_loader_processes_end_with_a_worker_that_is_killed(shards: list[Path]) -> None:
    command = [sys.executable, "-c", HELD, str(shards[0])]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, env=environment
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"30\n"
        os.kill(worker.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while group_lives(worker.pid):
        assert time.monotonic() < deadline, "loader processes outlived their worker by 30 s"
        time.sleep(0.02)


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
