"""The prepare stage: draw B, calibrate the checkpoints, and store what scoring needs."""

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from coreset.schemas.manifest import Accuracy, Steps
from coreset.schemas.plan import Plan
from coreset.spec.scores import Score
from coreset.storage.storage import Storage
from coreset.storage.target_clusters import save_target_clusters
from coreset.storage.verified import RecordingStorage
from coreset_workers.data.decode import Sample
from coreset_workers.data.loader import Loader
from coreset_workers.influence import prepared_files as prepared
from coreset_workers.influence.clusters import nearest, store_centroids
from coreset_workers.influence.horizon import clip_checkpoint
from coreset_workers.influence.trace import Drawn, Progress, draw_samples
from coreset_workers.model.clip import ClipModel
from coreset_workers.model.inputs import CLIP, RUN, load_clip_weights, pairs_of_samples
from coreset_workers.stages.calibrate import CalibratedCheckpoint, calibrate
from diffin.contrastive import Encoded, Pairs
from diffin.samples import ContrastiveLosses
from diffin.self_influence import SIGN
from diffin.stencil import move


def prepare_plan(plan: Plan, storage: Storage, loader: Loader, device: torch.device, progress: Progress) -> None:
    """Prepare the plan, unless it is prepared already.

    Raises:
        InvalidInput: the pool or a checkpoint cannot be used.
        AccuracyNotMet: no precision passes the accuracy gate.
    """
    if prepared.load_preparation(storage, plan) is not None:
        return
    storage = RecordingStorage(storage.root)
    started = time.monotonic()
    drawn = draw_samples(plan, loader, progress)
    embeddings = _store_reference(plan, storage, drawn, device)
    seconds = {"draw": time.monotonic() - started}
    if not plan.checkpoints:
        assert embeddings is not None
        _prepare_without_run(plan, storage, drawn, embeddings, seconds)
        return
    calibration = calibrate(plan, drawn, device, progress)
    for index, checkpoint in enumerate(calibration.checkpoints):
        _store_checkpoint(storage, plan, index, checkpoint)
    warnings = drawn.warnings + calibration.traced.warnings + calibration.warnings
    if plan.clusters:
        if embeddings is None:
            horizon = calibration.traced.horizon.checkpoint
            assert horizon is not None
            own = calibration.checkpoints[clip_checkpoint(plan, horizon)]
            embeddings = _embed(own.samples, own.theta, _target_pairs(drawn.target, RUN, device))
        warnings += _store_clusters(plan, storage, embeddings)
    model = calibration.traced.model
    prepared.save_preparation(
        storage,
        plan,
        prepared.Preparation(
            precision=calibration.precision,
            accuracy={Score(name): Accuracy(**vars(agreed)) for name, agreed in calibration.accuracy.items()},
            reference_uids=[sample.uid for sample in drawn.reference],
            parameters_counted=model.layout.size,
            parameters_total=sum(shape.numel() for shape in model.shapes.values()),
            warnings=warnings,
            horizon=calibration.traced.horizon,
            steps=[
                {Score(name): Steps(**vars(steps)) for name, steps in checkpoint.prepared.steps.items()}
                for checkpoint in calibration.checkpoints
            ],
            seconds=seconds | calibration.seconds,
            files=storage.written,
        ),
    )


def _prepare_without_run(
    plan: Plan, storage: Storage, drawn: Drawn, embeddings: "_Embeddings", seconds: dict[str, float]
) -> None:
    """Prepare a plan whose scores all come from the CLIP-score model."""
    few = _store_clusters(plan, storage, embeddings) if plan.clusters else []
    model = ClipModel.build(plan.model, torch.device("cpu"))
    preparation = prepared.Preparation(
        precision="float32",
        reference_uids=[sample.uid for sample in drawn.reference],
        parameters_counted=0,
        parameters_total=sum(shape.numel() for shape in model.shapes.values()),
        warnings=drawn.warnings + few,
        seconds=seconds,
    )
    prepared.save_preparation(storage, plan, preparation)


@dataclass(frozen=True)
class _Embeddings:
    """Embeddings of B, and of V if it is a pool of its own, by the model that CLIP score uses."""

    reference: Encoded
    target: Encoded | None


def _embed(samples: ContrastiveLosses, theta: Tensor, target: Pairs | None) -> _Embeddings:
    with torch.no_grad():
        of_target = None if target is None else replace(samples, reference=target).context(theta)
        return _Embeddings(samples.context(theta), of_target)


def _target_pairs(target: list[Sample] | None, view: str, device: torch.device) -> Pairs | None:
    return None if target is None else pairs_of_samples(target, view).to(device)


def _store_reference(plan: Plan, storage: Storage, drawn: Drawn, device: torch.device) -> _Embeddings | None:
    """Store the ids of B's samples.

    If the CLIP-score model is not the run's own, also store B's embeddings by it, and return B's and V's.
    """
    embeddings = None
    pairs = pairs_of_samples(drawn.reference, RUN if plan.checkpoints else CLIP)
    tensors = {"ids": pairs.ids, "captions": pairs.captions}
    if plan.clip_model is not None:
        model = ClipModel.build(plan.clip_model, device)
        weights = load_clip_weights(plan, model)
        reference = pairs_of_samples(drawn.reference, CLIP).to(device)
        samples = ContrastiveLosses(model.encoder(weights.fixed), reference, model.kind)
        embeddings = _embed(samples, weights.theta, _target_pairs(drawn.target, CLIP, device))
        tensors |= {f"clip/{name}": value for name, value in vars(embeddings.reference).items()}
    prepared.save_tensors(storage, plan, "reference", tensors)
    return embeddings


def _store_clusters(plan: Plan, storage: Storage, embeddings: _Embeddings) -> list[str]:
    """Store the centroids of B's images and V's counts per cluster; return a warning if there are too few clusters."""
    centroids = store_centroids(storage, plan, embeddings.reference.image)
    made = len(centroids)
    if embeddings.target is not None:
        members = nearest(embeddings.target.image.cpu(), centroids).bincount(minlength=made)
        save_target_clusters(storage, plan, members.tolist())
    short = f"wanted {plan.clusters} clusters, made {made}: the reference batch has no more different images"
    return [short] if made < plan.clusters else []


def _store_checkpoint(storage: Storage, plan: Plan, index: int, checkpoint: CalibratedCheckpoint) -> None:
    """Store what scoring needs at a checkpoint. Vectors of signs are left out, since a seed draws them again."""
    stencil, samples, theta = checkpoint.prepared.stencil, checkpoint.samples, checkpoint.theta
    directions = {name: value for name, value in checkpoint.prepared.directions.items() if name in stencil.directions}
    with torch.no_grad():
        contexts = [samples.context(move(theta, point, directions)) for point in stencil.points]
        slopes = {name: samples.context_along(theta, directions[name].to(theta)) for name in stencil.slopes}
    stored = {name: value for name, value in directions.items() if not name.startswith(SIGN)}
    ready = prepared.PreparedCheckpoint(stencil, stored, contexts, slopes)
    prepared.save_checkpoint(storage, plan, index, ready)
