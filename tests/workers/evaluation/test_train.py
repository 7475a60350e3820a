"""Training a proxy: the same bits for the same seed, and every sample as often as it is selected."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coreset.schemas.plan import PlannedModel
from coreset_workers.evaluation import train
from coreset_workers.evaluation.decoded import DecodedSamples
from coreset_workers.evaluation.train import Rows, augmented, train_proxy
from tests.workers.conftest import TINY

CPU = torch.device("cpu")
MODEL = PlannedModel(name="tiny", config=TINY, source="spec")


@pytest.fixture(scope="module")
def pool() -> DecodedSamples:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 32, 32), generator=draws, dtype=torch.uint8)
    tokens = torch.randint(1, 64, (24, 24), generator=draws)
    return DecodedSamples([f"{i:032x}" for i in range(24)], [f"caption {i}" for i in range(24)], images, tokens)


def weights(pool: DecodedSamples, rows: Rows, seed: int = 0, seen: int = 48) -> torch.Tensor:
    model = train_proxy(MODEL, CPU, pool, rows, seen, 8, 1e-3, seed)
    return torch.cat([value.flatten() for value in model.module.state_dict().values() if value.is_floating_point()])


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(pool: DecodedSamples) -> None:
    rows = np.arange(12)
    one = weights(pool, rows)
    torch.rand(7)  # what was drawn before does not count
    assert torch.equal(one, weights(pool, rows))
    assert not torch.equal(one, weights(pool, rows, seed=1))


def test_other_samples_give_another_proxy(pool: DecodedSamples) -> None:
    assert not torch.equal(weights(pool, np.arange(12)), weights(pool, np.arange(12, 24)))


def test_training_lowers_the_loss(pool: DecodedSamples) -> None:
    rows = np.arange(8)
    before, after = (train_proxy(MODEL, CPU, pool, rows, seen, 8, 1e-2, 0) for seen in (8, 800))

    def loss(model: train.ClipModel) -> float:
        images, texts = (
            torch.nn.functional.normalize(found, dim=1)
            for found in (
                model.module.encode_image(model.normalised(pool.images[:8])),  # type: ignore[operator]
                model.module.encode_text(pool.tokens[:8]),  # type: ignore[operator]
            )
        )
        return torch.nn.functional.cross_entropy(20 * images @ texts.T, torch.arange(8)).item()

    with torch.no_grad():
        assert loss(after) < loss(before) - 0.5


@settings(deadline=None, max_examples=30)
@given(k=st.integers(1, 40), batch=st.integers(1, 16), steps=st.integers(1, 20), seed=st.integers(0, 5))
def test_every_sample_is_seen_equally_often(k: int, batch: int, steps: int, seed: int) -> None:
    seen = torch.cat(list(train._batches(np.arange(100, 100 + k), steps, batch, seed)))
    counts = Counter(seen.tolist())
    assert len(seen) == steps * batch
    assert max(counts.values()) - min(counts.get(row, 0) for row in range(100, 100 + k)) <= 1


def test_a_sample_that_is_selected_twice_is_seen_twice_as_often() -> None:
    seen = torch.cat(list(train._batches(np.array([3, 3, 5]), 20, 3, 0)))
    assert Counter(seen.tolist()) == {3: 40, 5: 20}


def test_a_stop_is_heard_after_each_step(pool: DecodedSamples) -> None:
    reported: list[float] = []
    train_proxy(MODEL, CPU, pool, np.arange(12), 40, 8, 1e-3, 0, reported.append)
    assert reported == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_proxy(MODEL, CPU, pool, np.arange(12), 40, 8, 1e-3, 0, stop)


def test_augmentation_moves_and_mirrors_and_invents_nothing() -> None:
    image = torch.arange(16 * 16, dtype=torch.float).reshape(1, 1, 16, 16).div(2).to(torch.uint8).expand(64, 3, 16, 16)
    moved = augmented(image, torch.Generator().manual_seed(0))
    assert (moved.shape, moved.dtype) == (image.shape, image.dtype)
    flat = image[0, 0]
    possible = {
        bytes((line.flip(1) if mirrored else line).contiguous().numpy())
        for top in range(5)
        for left in range(5)
        for mirrored in (False, True)
        for line in [torch.nn.functional.pad(flat[None, None].float(), (2,) * 4, mode="replicate")
                     .to(torch.uint8)[0, 0, top : top + 16, left : left + 16]]
    }  # fmt: skip
    found = {bytes(one[0].contiguous().numpy()) for one in moved}
    assert found <= possible
    assert len(found) > 20
