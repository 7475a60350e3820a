"""What a proxy can do, on embeddings whose recalls are known by counting."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from coreset_workers.evaluation.measure import measure
from coreset_workers.training.decoded import DecodedSamples


class Known(nn.Module):
    """Encodes an image by the row of its first pixel, a text by the row of its first token."""

    def __init__(self, images: Tensor, texts: Tensor) -> None:
        super().__init__()
        self.images, self.texts = images, texts

    def encode_image(self, images: Tensor) -> Tensor:
        return self.images[images[:, 0, 0, 0].long()]

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.texts[tokens[:, 0]]


class Model:
    device = torch.device("cpu")

    def __init__(self, module: Any) -> None:
        self.module = module

    def normalised(self, images: Tensor) -> Tensor:
        return images


def packed_of(captions: list[str], numbers: list[int]) -> DecodedSamples:
    """The i-th image is row i; a sample's tokens are the number of its caption."""
    n = len(captions)
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, 2, 2)
    return DecodedSamples([f"{i:032x}" for i in range(n)], captions, images, torch.tensor(numbers)[:, None])


def onehot(*rows: int, width: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(rows), width).float()


def test_distinct_captions_are_retrieved_in_both_directions() -> None:
    """Twelve pairs on a circle: an image lies at its own text, but for two that are exchanged with their neighbours."""
    angles = 2 * torch.pi * torch.arange(12) / 12
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    swapped = circle[[1, 0, *range(2, 12)]]
    captions = [f"caption {i}" for i in range(12)]
    found = measure(Model(Known(swapped, circle)), packed_of(captions, list(range(12))))  # type: ignore[arg-type]
    assert found.accuracy is None
    assert found.image_to_text == pytest.approx({1: 10 / 12, 5: 1, 10: 1})
    assert found.text_to_image == pytest.approx({1: 10 / 12, 5: 1, 10: 1})


def test_captions_that_many_share_are_classes() -> None:
    captions = [name for name in ("cat", "dog") for _ in range(5)]
    images = onehot(0, 0, 0, 0, 1, 1, 1, 1, 1, 0, width=2)
    found = measure(Model(Known(images, onehot(0, 1, width=2))), packed_of(captions, [0] * 5 + [1] * 5))  # type: ignore[arg-type]
    assert found.accuracy == pytest.approx(8 / 10)
    assert found.image_to_text[1] == found.accuracy
    assert found.image_to_text[5] == 1, "there are two captions only"
    assert found.points == pytest.approx(80)


def test_any_of_a_captions_images_counts() -> None:
    """The nearest image of a text need not be that of the first sample with this caption."""
    captions = ["a", "b", "b", "c"]
    texts = onehot(0, 1, 2, width=3)
    images = torch.stack([texts[0], torch.tensor([0.9, 0.1, 0.0]), texts[1], texts[2]])
    found = measure(Model(Known(images, texts)), packed_of(captions, [0, 1, 1, 2]))  # type: ignore[arg-type]
    assert found.text_to_image[1] == 1
    assert found.image_to_text[1] == pytest.approx(3 / 4)


def test_embeddings_are_compared_by_their_direction() -> None:
    texts = onehot(0, 1, width=2)
    images = torch.tensor([[5.0, 1.0], [90.0, 100.0]])
    found = measure(Model(Known(images, texts * torch.tensor([[1.0], [50.0]]))), packed_of(["a", "b"], [0, 1]))  # type: ignore[arg-type]
    assert found.image_to_text[1] == 1
