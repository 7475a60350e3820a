"""The truth benchmark's ResNet: its images, and a training that a sample has no part in."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.retraining.digits import Labelled
from benchmarks.retraining.evidence import scores
from benchmarks.retraining.resnet import ResnetProblem, fine_tune, read_cifar, resnet18, warm
from benchmarks.retraining.training import Training

pytestmark = pytest.mark.slow

TINY = Training("sgd", 0.05, steps=5, batch_size=8, samples=16, retrainings=2)


def images(count: int) -> Labelled:
    numbers = torch.Generator().manual_seed(0)
    drawn = torch.rand(count, 3, 32, 32, generator=numbers, dtype=torch.float64)
    return Labelled(2 * drawn - 1, torch.randint(10, (count,), generator=numbers))


def test_the_images_are_those_of_the_shards(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0)
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for i in range(3):
            picture = io.BytesIO()
            Image.fromarray(np.full((32, 32, 3), numbers.integers(256), np.uint8)).save(picture, "JPEG", quality=95)
            for end, data in (("jpg", picture.getvalue()), ("cls", str(i).encode()), ("txt", b"a cat")):
                member = tarfile.TarInfo(f"{i}.{end}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    found = read_cifar(tmp_path, 2)
    assert found.classes.tolist() == [0, 1]
    shade = int(np.random.default_rng(0).integers(256)) / 127.5 - 1
    torch.testing.assert_close(found.images[0], torch.full((3, 32, 32), shade).double(), atol=0.02, rtol=0)
    with pytest.raises(FileNotFoundError, match="3 images of CIFAR-10 in tar files, but 4 are needed"):
        read_cifar(tmp_path, 4)


def test_a_sample_that_is_left_out_has_no_part_in_the_training() -> None:
    pool = images(16)
    changed = Labelled(pool.images.clone(), pool.classes)
    changed.images[3] += 1
    start = warm(pool, TINY)
    with_it, without_it = ([fine_tune(start, p, TINY, rows)[-1].theta for p in (pool, changed)] for rows in ([], [3]))
    assert not torch.equal(with_it[0], with_it[1])
    assert torch.equal(without_it[0], without_it[1])


def test_every_estimator_scores_what_was_left_out() -> None:
    pool, validation = images(16), images(12)
    problem = ResnetProblem(TINY, warm(pool, TINY), pool, validation, processes=1)
    saved, losses = problem.train(TINY)
    assert [one.step for one in saved] == [0, 1, 2, 3, 4, 5]
    assert len(losses) == 3
    model = resnet18().double().eval()
    shapes = dict(model.named_parameters())
    parts = saved[-1].theta.split([value.numel() for value in shapes.values()])
    weights = {name: part.view_as(shapes[name]) for name, part in zip(shapes, parts, strict=True)}
    model.load_state_dict(weights | saved[0].fixed)
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(model(validation.images), validation.classes)
    assert float(losses[-1]) == pytest.approx(float(expected), rel=1e-9)
    found = scores(problem, saved)
    assert set(found) == {"diffin", "diffin_eq9", "tracin"}
    assert all(value.shape == (2,) and value.isfinite().all() for value in found.values())
