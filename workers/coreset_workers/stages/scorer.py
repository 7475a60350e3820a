"""Scores of samples: forward passes at every point of every checkpoint, and weighted sums of their losses."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from coreset.schemas.plan import Plan
from coreset.spec.columns import CLUSTER
from coreset.spec.kept import Kept
from coreset.spec.scores import Score
from coreset.storage.storage import Storage
from coreset_workers.checkpoints import files as checkpoint_files
from coreset_workers.data.loader import Block
from coreset_workers.influence import prepared_files as prepared
from coreset_workers.influence.clusters import load_centroids, nearest
from coreset_workers.influence.horizon import clip_checkpoint
from coreset_workers.influence.passes import Columns, Passes, block_samples
from coreset_workers.influence.self_influence import frame, self_influence
from coreset_workers.model.batch_size import batch_size, held_bytes
from coreset_workers.model.batches import Batches
from coreset_workers.model.clip import ClipModel, Weights
from coreset_workers.model.inputs import CLIP, RUN, load_clip_weights, pairs_of_block
from coreset_workers.model.precision import PRECISIONS
from coreset_workers.outputs.kept import KEPT_COLUMNS
from diffin.contrastive import Encoded, Pairs, cosine, neg_clip_loss
from diffin.self_influence import SIGN, named
from diffin.stencil import CENTRE, Stencil

OF_EMBEDDINGS = (Score.CLIP_SCORE, Score.NEG_CLIP_LOSS, CLUSTER)
"""Columns made of the embeddings of the CLIP-score model."""

EMBEDDINGS = KEPT_COLUMNS["embeddings"]

COSINE = "cosine"
"""Name of the column of cosines at a checkpoint."""

Beat = Callable[[float], None]
"""Called after each batch with the share of the block that is done; raises to stop."""


@dataclass
class Scorer:
    """Scores samples by one plan; made once and used for shard after shard."""

    plan: Plan
    storage: Storage
    device: torch.device
    _held: dict[int, tuple[Weights, prepared.PreparedCheckpoint]] = field(default_factory=dict)

    @cached_property
    def preparation(self) -> prepared.Preparation:
        return prepared.require_preparation(self.storage, self.plan)

    @cached_property
    def clip_index(self) -> int:
        """The checkpoint behind the CLIP scores, if no other model is."""
        horizon = self.preparation.horizon.checkpoint if self.preparation.horizon else None
        return clip_checkpoint(self.plan, len(self.plan.checkpoints) - 1 if horizon is None else horizon)

    @cached_property
    def model(self) -> ClipModel:
        dtype = PRECISIONS[self.preparation.precision].dtype
        return ClipModel.build(self.plan.model, self.device, dtype, self.plan.parameters)

    @cached_property
    def batches(self) -> Batches:
        return Batches(self.device, batch_size(self.model, self.plan.reference_size))

    @cached_property
    def stencils(self) -> list[Stencil]:
        """The stencil of each checkpoint."""
        return [prepared.load_stencil(self.storage, self.plan, c.index) for c in self.plan.checkpoints]

    @cached_property
    def holds(self) -> bool:
        """Whether all checkpoints are held in memory together."""
        vectors = sum(1 + sum(not name.startswith(SIGN) for name in s.directions) for s in self.stencils if s.columns)
        return vectors * 4 * self.model.layout.size <= held_bytes(self.device)

    @property
    def block_samples(self) -> int:
        return block_samples(all_in_memory=self.holds)

    @cached_property
    def reference(self) -> Pairs:
        """Who is in B, for the masks; no images."""
        tensors = prepared.load_tensors(self.storage, self.plan, "reference")
        nothing = torch.zeros(len(tensors["ids"]), 0)
        return Pairs(nothing, nothing, tensors["ids"], tensors["captions"]).to(self.device)

    @cached_property
    def clip(self) -> tuple[ClipModel, Weights, Encoded]:
        """The CLIP-score model, its weights, and B's embeddings."""
        assert self.plan.clip_model is not None
        model = ClipModel.build(self.plan.clip_model, self.device) if self.plan.checkpoints else self.model
        tensors = prepared.load_tensors(self.storage, self.plan, "reference")
        return model, load_clip_weights(self.plan, model), prepared.load_encoded(tensors, "clip/", self.device)

    @cached_property
    def centroids(self) -> Tensor:
        """The clusters' centroids (c, d)."""
        return load_centroids(self.storage, self.plan).to(self.device)

    @cached_property
    def frame(self) -> dict[str, Tensor]:
        """The vectors of self-influence by name; they belong to all checkpoints."""
        return named(frame(self.plan, self.model.layout.size, self.device))

    def checkpoint(self, index: int) -> tuple[Weights, prepared.PreparedCheckpoint]:
        """Return the weights and what was prepared for them."""
        if index in self._held:
            return self._held[index]
        uri = self.plan.checkpoints[index].uri
        weights = self.model.weights(checkpoint_files.load(uri).state_dict, uri)
        found = weights, prepared.load_checkpoint(self.storage, self.plan, index, self.device)
        if Score.SELF_INFLUENCE in self.plan.scores:
            found = weights, replace(found[1], directions=found[1].directions | self.frame)
        if self.holds:
            self._held[index] = found
        return found

    def score(self, block: Block, beat: Beat, keep: Collection[Kept] = ()) -> dict[str, Tensor]:
        """Return the columns of a block's good samples: scores (n,), and by estimator the terms (n, m).

        Args:
            keep: kinds of columns (n, d) to return besides (coreset_workers.outputs.kept).
        """
        pairs = pairs_of_block(block, RUN if self.plan.checkpoints else CLIP)
        columns: dict[str, Tensor] = {}
        terms: dict[str, list[Tensor]] = {}
        losses, cosines = list[Tensor](), list[Tensor]()
        total = len(self.plan.checkpoints) + (1 if self.plan.clip_model else 0)
        nothing, no_columns = torch.zeros(len(pairs), dtype=torch.float64), torch.zeros(len(pairs), 0).double()
        for index, stencil in enumerate(self.stencils):
            found: Columns = {}
            if stencil.columns:  # else the checkpoint is not even read
                found = self._checkpoint_columns(index, pairs, lambda f, i=index: beat((i + f) / total), keep)
            for name, row in stencil.weights.items():
                table = torch.stack([found[c] for c in stencil.columns], 1) if stencil.columns else no_columns
                terms.setdefault(name, []).append(table @ table.new_tensor(row))
            losses += [found[CENTRE]] if CENTRE in found else []
            cosines += [found[COSINE]] if COSINE in found else []
            columns |= {name: found[name] for name in (*OF_EMBEDDINGS, *EMBEDDINGS) if name in found}
        if self.plan.clip_model is not None:
            columns |= self._clip_scores(pairs_of_block(block, CLIP), lambda f: beat((total - 1 + f) / total), keep)
        if Score.SELF_INFLUENCE in self.plan.scores:
            columns[Score.SELF_INFLUENCE] = self_influence(self.plan, terms)
        for name, each in terms.items():
            if name.startswith(SIGN):
                continue
            after_horizon = [nothing] * (len(self.stencils) - len(each))
            stacked = torch.stack(each + after_horizon, 1)
            columns |= {name: stacked.sum(1), f"{name}_by_checkpoint": stacked}
        if Score.LOSS in self.plan.scores:
            columns[Score.LOSS] = -torch.stack(losses).mean(0)
        if "losses" in keep:
            stacks = torch.stack(losses, 1), torch.stack(cosines, 1)
            columns |= dict(zip(KEPT_COLUMNS["losses"], stacks, strict=True))
        return columns

    def _checkpoint_columns(self, index: int, pairs: Pairs, beat: Beat, keep: Collection[Kept]) -> Columns:
        """Return the columns (n,) of a checkpoint's stencil, and CLIP scores by name if they are this one's."""
        own = self.plan.clip_model is None and index == self.clip_index

        def at_centre(encoded: Encoded, reference: Encoded, batch: Pairs) -> Columns:
            columns: Columns = {COSINE: cosine(encoded)} if "losses" in keep else {}
            return columns | (self._clip_columns(encoded, reference, batch, keep) if own else {})

        groups = Passes(self.model, *self.checkpoint(index), self.reference, at_centre).groups()
        columns: Columns = {}
        for number, make in enumerate(groups):
            columns |= self._mapped(make(), pairs, lambda f, n=number: beat((n + f) / len(groups)))
        return columns

    def _clip_scores(self, pairs: Pairs, beat: Beat, keep: Collection[Kept]) -> dict[str, Tensor]:
        model, weights, reference = self.clip
        encode = model.encoder(weights.fixed)

        def columns(batch: Pairs) -> Columns:
            return self._clip_columns(encode(weights.theta, batch).double(), reference, batch, keep)

        return self._mapped(columns, pairs, beat)

    def _mapped(self, run: Callable[[Pairs], dict[Any, Tensor]], pairs: Pairs, beat: Beat) -> dict[Any, Tensor]:
        """Run a pass over all pairs, batch by batch, and return its columns (n,) on the CPU."""
        with PRECISIONS[self.preparation.precision].kernels(), torch.no_grad():
            on_cpu = lambda batch: {name: column.cpu() for name, column in run(batch).items()}  # noqa: E731
            batches = self.batches.map(pairs, on_cpu, beat)
        return {name: torch.cat([batch[name] for batch in batches])[: len(pairs)] for name in batches[0]}

    def _clip_columns(self, encoded: Encoded, reference: Encoded, batch: Pairs, keep: Collection[Kept]) -> Columns:
        columns: Columns = {}
        if "embeddings" in keep:
            columns |= dict(zip(EMBEDDINGS, (encoded.image.half(), encoded.text.half()), strict=True))
        if Score.CLIP_SCORE in self.plan.scores:
            columns[Score.CLIP_SCORE] = cosine(encoded)
        if Score.NEG_CLIP_LOSS in self.plan.scores:
            same = batch.ids[:, None] == self.reference.ids[None, :]
            columns[Score.NEG_CLIP_LOSS] = neg_clip_loss(encoded, reference, same)
        if self.plan.clusters:
            columns[CLUSTER] = nearest(encoded.image, self.centroids)
        return columns
