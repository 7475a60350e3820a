"""The passes of one checkpoint: the losses of a batch at every column of its stencil."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from coreset.schemas.plan import Plan
from coreset.spec.scores import Score
from coreset_workers.data.loader import BLOCK_SAMPLES
from coreset_workers.influence.horizon import clip_checkpoint
from coreset_workers.influence.prepared_files import PreparedCheckpoint
from coreset_workers.model.clip import ClipModel, Weights
from diffin.contrastive import Encoded, Pairs
from diffin.samples import ContrastiveLosses
from diffin.stencil import CENTRE, Coefficients, move
from diffin.trunk import trunk_run_once

Columns = dict[Coefficients | str, Tensor]
"""By column of the stencil, or by name of a score: (n,)."""

Pass = Callable[[Pairs], Columns]

AtCentre = Callable[[Encoded, Encoded, Pairs], Columns]
"""(embeddings of a batch, of B, the batch), all at the checkpoint itself -> further columns."""

TOGETHER = 8
"""Points at most that share a run of the frozen trunk: each holds a copy of the counted parameters."""


LARGER_BLOCKS = 16
"""Block-size factor used when the checkpoints do not all fit in memory and are read again for each block."""


def block_samples(all_in_memory: bool) -> int:
    """Return the number of samples in a full block, given whether all checkpoints stay in memory."""
    return BLOCK_SAMPLES * (1 if all_in_memory else LARGER_BLOCKS)


def needs_centre(plan: Plan, index: int, horizon: int) -> bool:
    """Return whether the losses or embeddings at the checkpoint itself are needed.

    Args:
        horizon: the last checkpoint that influence uses.
    """
    if Score.LOSS in plan.scores:
        return True
    clip_scores = {Score.CLIP_SCORE, Score.NEG_CLIP_LOSS} & set(plan.scores)
    return bool(clip_scores) and plan.clip_model is None and index == clip_checkpoint(plan, horizon)


@dataclass(frozen=True)
class Passes:
    """What is run on every batch at one checkpoint.

    Attributes:
        reference: who is in B; no images.
        at_centre: what else is made of the embeddings at the checkpoint itself.
    """

    model: ClipModel
    weights: Weights
    ready: PreparedCheckpoint
    reference: Pairs
    at_centre: AtCentre

    def groups(self) -> list[Callable[[], Pass]]:
        """Return what is to be done to a batch, in groups; the call of a group's maker moves the parameters.

        Only a group's points are in memory. Points share a group where they share a frozen trunk: then few
        parameters move, and the trunk runs once.
        """
        points = [p for p in self.ready.stencil.points if p != CENTRE or not self.ready.stencil.slopes]
        size = TOGETHER if self.model.frozen else 1
        together = [points[start : start + size] for start in range(0, len(points), size)]
        slopes = self.ready.stencil.slopes
        return [
            *(lambda group=group: self._at_points(group) for group in together),
            *(lambda name=name: self._along(name, first=name == slopes[0]) for name in slopes),
        ]

    def _at_points(self, points: list[Coefficients]) -> Pass:
        places = [self.ready.stencil.points.index(point) for point in points]
        thetas = [move(self.weights.theta, point, self.ready.directions) for point in points]

        def run(batch: Pairs) -> Columns:
            columns: Columns = {}
            with trunk_run_once(self.model.frozen):
                for point, place, theta in zip(points, places, thetas, strict=True):
                    encoded, context = self._samples.encode(theta, batch).double(), self.ready.contexts[place]
                    columns[point] = self._samples.of(encoded, context, batch)
                    columns |= self.at_centre(encoded, context, batch) if point == CENTRE else {}
            return columns

        return run

    def _along(self, name: str, first: bool) -> Pass:
        """Return the pass of a slope; the first one brings the losses at the checkpoint with it."""
        context = self.ready.slopes[name]

        def run(batch: Pairs) -> Columns:
            theta, direction = self.weights.theta, self.ready.directions[name].to(self.weights.theta)
            losses, slopes, encoded = self._samples.slopes(theta, direction, context, batch)
            if not first or CENTRE not in self.ready.stencil.points:
                return {name: slopes}
            return {name: slopes, CENTRE: losses} | self.at_centre(encoded, context[0], batch)

        return run

    @cached_property
    def _samples(self) -> ContrastiveLosses:
        return ContrastiveLosses(self.model.encoder(self.weights.fixed), self.reference, self.model.kind)
