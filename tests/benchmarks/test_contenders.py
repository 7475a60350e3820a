"""The speed benchmark's contenders compute what they claim to, on a tiny model."""

import pytest
import torch

from benchmarks import gpu
from benchmarks.contenders import Contenders, random_pairs
from benchmarks.speed import ratios
from coreset.schemas.plan import PlannedModel
from diffin.batch_loss import ContrastiveLoss
from diffin.exact import exact_terms

pytestmark = pytest.mark.slow

CONFIG = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 3, "width": 8, "head_width": 4, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 3},
}
TINY = PlannedModel(name="tiny", config=CONFIG, source="spec")


@pytest.fixture(scope="module", params=[None, 1], ids=["all", "last block"])
def contenders(request: pytest.FixtureRequest) -> Contenders:
    return Contenders.build(TINY, torch.device("cpu"), 12, request.param, torch.float64)


def test_diffin_is_the_derivative_along_its_direction(contenders: Contenders) -> None:
    batch = random_pairs(contenders.model, 6, seed=3)
    directions = {"influence": contenders.directions["influence"]}
    exact = exact_terms(contenders.samples, contenders.weights.theta, directions, batch)["diffin"]
    torch.testing.assert_close(contenders.diffin_slope(batch), exact)
    torch.testing.assert_close(contenders.diffin(batch), exact, rtol=0, atol=1e-4 * float(exact.abs().max()))


def test_the_naive_loop_is_eq9_with_the_training_as_target(contenders: Contenders) -> None:
    batch = random_pairs(contenders.model, 3, seed=4)
    theta, b = contenders.weights.theta, contenders._reference_gradient
    loss = ContrastiveLoss(contenders.samples.encode, contenders.reference, contenders.model.kind)
    directions = {"gradient": b, "bend": loss.hvp(theta, b)}
    exact = exact_terms(contenders.samples, theta, directions, batch)["diffin_eq9"]
    torch.testing.assert_close(contenders.naive(batch), exact, rtol=0, atol=1e-4 * float(exact.abs().max()))


def test_vmap_of_grad_leaves_out_what_moves_with_the_reference(contenders: Contenders) -> None:
    """The same slope with B's embeddings held: a difference with the centre's context."""
    batch = random_pairs(contenders.model, 4, seed=5)
    theta, r, samples = contenders.weights.theta, contenders.directions["influence"], contenders.samples
    with torch.no_grad():
        context = samples.context(theta)
        ahead, behind = (samples.losses(theta + h * r, context, batch) for h in (1e-5, -1e-5))
    slope = (ahead - behind) / 2e-5
    found = contenders.per_sample_gradients(batch)
    torch.testing.assert_close(found, slope, rtol=0, atol=1e-6 * float(slope.abs().max()))


def test_a_ratio_is_the_median_over_the_rounds(contenders: Contenders) -> None:
    batch = random_pairs(contenders.model, 8, seed=6)
    found = ratios(contenders.forward, batch, contenders.diffin, batch, rounds=3)
    assert len(found["ratios"]) == 3
    assert min(found["ratios"]) > 0
    assert found["ratio"] == sorted(found["ratios"])[1]


def test_every_way_of_the_gpu_benchmark_runs_and_float32_passes_the_gate() -> None:
    """On the CPU: dynamo traces without a compiler behind it, and TF32 is float32."""
    found = gpu.measure(TINY, torch.device("cpu"), batch_size=32, reference_size=12, rounds=1, backend="eager")
    assert set(found["ways"]) == {way.name for way in gpu.WAYS}
    assert len(found["ways"]) == 6
    for name, row in found["ways"].items():
        assert row["samples_per_second"] > 0, name
        assert row["samples"] == 32, name
        assert row["spearman"] > (0.9 if "bfloat16" in name else 0.999), (name, row)
    assert found["ways"]["float32"]["passes_the_gate"]
    assert found["flops_of_a_forward"] > 0
