"""What memory a job would take, from its plan: by stage, and by what it is for.

Passes are traced (model/meta_device.py). What lives long is counted here, as influence/trace.py, stages/prepare.py and
stages/score.py hold it.
"""

import math
from dataclasses import dataclass
from functools import cached_property

from coreset.schemas.plan import Plan
from coreset.schemas.preflight import DEVICE, HOST, MemoryEstimate, MemoryItem, MemoryStage
from coreset.spec.scores import ESTIMATORS, Score
from coreset_workers.estimates.time import unit_stencil
from coreset_workers.influence.passes import block_samples
from coreset_workers.influence.self_influence import VECTORS
from coreset_workers.influence.trace import MINIBATCH, PROBES, samples_of_minibatches
from coreset_workers.model.batch_size import (
    LARGEST_BATCH,
    MEMORY_IN_PIECES,
    bytes_a_sample,
    free_bytes,
    graph_samples,
    held_bytes,
    scoring_batch,
)
from coreset_workers.model.clip import ClipModel
from coreset_workers.model.device import device_name
from coreset_workers.model.meta_device import Shadow, peak_bytes
from diffin.adjoint import LANCZOS_STEPS
from diffin.stencil import Stencil

PROCESS_BYTES = 900_000_000
"""Of a worker that has imported what it needs: Python, torch, open_clip, pyarrow, DuckDB."""


@dataclass(frozen=True)
class MemoryPlan:
    """Estimates what a plan takes on the device of its model (float32).

    The items of a stage are there at the same time, and the stages come one after another.
    """

    plan: Plan
    model: ClipModel

    @cached_property
    def shadow(self) -> Shadow:
        return Shadow.of(self.model)

    @cached_property
    def batch(self) -> int:
        """Samples in a forward pass that scores, on a device that holds nothing yet but what scoring holds."""
        alone = self.model.device.type == "cpu"
        held = sum(item.bytes for item in self._weights() if alone or item.place == DEVICE)
        free = free_bytes(self.model.device) - held
        each = bytes_a_sample(self.shadow, self.plan.reference_size)
        return scoring_batch(each, free, LARGEST_BATCH[self.model.device.type])

    def estimate(self) -> MemoryEstimate:
        """Return the stages and the largest one's bytes."""
        stages = [self._reading()]
        if {Score.DIFFIN, Score.DIFFIN_EQ9} & set(self.plan.scores):
            stages.append(self._tracing())
        if self._measured:
            stages.append(self._calibrating())
        stages.append(self._scoring())
        alone = self.model.device.type == "cpu"  # then device and host are one
        return MemoryEstimate(
            device=device_name(self.model.device),
            device_bytes=max(stage.sum_of(*((DEVICE, HOST) if alone else (DEVICE,))) for stage in stages),
            host_bytes=0 if alone else max(stage.sum_of(HOST) for stage in stages),
            free_bytes=free_bytes(self.model.device),
            batch_size=self.batch,
            stages=stages,
        )

    @property
    def _measured(self) -> bool:
        """Whether there is a score whose accuracy is measured, in float64."""
        return bool({*ESTIMATORS, Score.SELF_INFLUENCE} & set(self.plan.scores))

    @property
    def _counted(self) -> int:
        """Bytes of a vector of the counted parameters in float32."""
        return 4 * self.model.layout.size

    @cached_property
    def _all(self) -> int:
        """Bytes of all parameters and buffers in float32."""
        return 4 * sum(value.numel() for value in self.model.module.state_dict().values())

    @property
    def _file(self) -> MemoryItem:
        size = max(checkpoint.size for checkpoint in self.plan.checkpoints)
        return MemoryItem(what="a checkpoint file as it is read", bytes=size, place=HOST)

    @cached_property
    def _stencil(self) -> Stencil:
        return unit_stencil(self.plan, len(self.plan.checkpoints) - 1)

    @property
    def _at_once(self) -> int:
        """Number of checkpoints that scoring holds."""
        count = len(self.plan.checkpoints)
        vectors = (1 + len(self._stencil.directions)) * self._counted * count
        return count if vectors <= held_bytes(self.model.device) else 1

    def _prepared(self) -> list[MemoryItem]:
        """Return what is there through all of the preparation."""
        plan, image = self.plan, math.prod(self.shadow.image_shape)
        adam = self._counted if plan.checkpoints[-1].optimizer else 0
        drawn = max(samples_of_minibatches(plan), plan.reference_size + PROBES)
        on_device = len(plan.checkpoints) * plan.reference_size
        return [
            MemoryItem(what="the worker itself", bytes=PROCESS_BYTES, place=HOST),
            MemoryItem(what="the model", bytes=self._all),
            *self._double(),
            MemoryItem(
                what=f"{len(plan.checkpoints)} checkpoints, with P where there is one",
                bytes=len(plan.checkpoints) * (self._all + adam),
            ),
            MemoryItem(what="samples drawn for B, probes and minibatches", bytes=2 * drawn * image, place=HOST),
            MemoryItem(what="B on the device, for each checkpoint", bytes=on_device * image),
        ]

    def _double(self) -> list[MemoryItem]:
        """Return the model in float64, and what of each checkpoint is not counted."""
        if not self._measured:
            return []
        fixed = len(self.plan.checkpoints) * (self._all - self._counted)
        return [MemoryItem(what="the same in float64, for the accuracy", bytes=2 * (self._all + fixed))]

    def _reading(self) -> MemoryStage:
        return MemoryStage(name="reading checkpoints", items=[*self._prepared(), self._file])

    def _tracing(self) -> MemoryStage:
        plan, p = self.plan, self._counted
        size = round(min(MINIBATCH, plan.n_samples.value))
        held = graph_samples(self.model)
        product = (
            round(peak_bytes(self.shadow.product(min(size, held))) * (1 if size <= held else MEMORY_IN_PIECES)) - 2 * p
        )
        vectors = 3 * len(plan.checkpoints) + LANCZOS_STEPS + 4  # of both draws, and their means
        return MemoryStage(
            name="tracing the target's gradient back through training",
            items=[
                *self._prepared(),
                MemoryItem(what="directions and Lanczos vectors", bytes=vectors * p),
                MemoryItem(what=f"a Hessian-vector product, graphs of {min(size, held)} samples", bytes=product),
            ],
        )

    def _calibrating(self) -> MemoryStage:
        plan, p = self.plan, self._counted
        found = len(self._stencil.directions)
        exact = peak_bytes(self.shadow.exact(PROBES, plan.reference_size)) - 2 * p
        return MemoryStage(
            name="calibrating steps",
            items=[
                *self._prepared(),
                *self._signs(),
                MemoryItem(what="directions of all checkpoints", bytes=len(plan.checkpoints) * found * p),
                MemoryItem(what="parameters and directions in float64", bytes=2 * (found + 3) * p),
                MemoryItem(what=f"exact derivatives of {PROBES} probes in float64", bytes=2 * exact),
            ],
        )

    def _signs(self) -> list[MemoryItem]:
        if Score.SELF_INFLUENCE not in self.plan.scores:
            return []
        return [MemoryItem(what="self-influence's vectors of signs", bytes=VECTORS * self.model.layout.size)]

    def _weights(self) -> list[MemoryItem]:
        """Return what scoring holds besides samples."""
        p, used, alone = self._counted, len(self._stencil.directions), self.model.device.type == "cpu"
        points = len(self._stencil.points) if self.model.frozen else 1
        return [
            *self._signs(),
            MemoryItem(what="the model", bytes=self._all),
            MemoryItem(what=f"{self._at_once} checkpoints", bytes=self._at_once * self._all),
            MemoryItem(what="their directions", bytes=self._at_once * used * p, place=HOST),
            MemoryItem(what="parameters moved to a point", bytes=(points + 2 + (0 if alone else used)) * p),
        ]

    def _scoring(self) -> MemoryStage:
        plan = self.plan
        image = math.prod(self.shadow.image_shape)
        most = block_samples(all_in_memory=self._at_once == len(plan.checkpoints))
        block = round(min(most, plan.n_samples.value / len(plan.shards)) * image)
        batch = round(self.batch * bytes_a_sample(self.shadow, plan.reference_size))
        return MemoryStage(
            name="scoring",
            items=[
                MemoryItem(what="the worker itself", bytes=PROCESS_BYTES, place=HOST),
                *self._weights(),
                self._file,
                MemoryItem(what=f"a forward pass of {self.batch} samples", bytes=batch),
                MemoryItem(what="a block of decoded samples", bytes=2 * block, place=HOST),
            ],
        )
