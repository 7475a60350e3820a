"""The plan: the job spec with what the workers found in shards and checkpoints. Immutable, content-addressed.

Its id is a hash of all that decides a score, so equal plans share their parts, and a job that is posted again after a
loss of Redis finds the parts that are complete.
"""

import hashlib
import posixpath
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import Field

from coreset.spec.base import FrozenModel, is_none
from coreset.spec.columns import CAPTION, CAPTION_INDEX, PartColumns, metadata_column
from coreset.spec.job import ValidationTarget
from coreset.spec.pool import CaptionField, Captions
from coreset.spec.scores import Score

SCORING_VERSION = 3
"""Version of the scores; raise it with every change that changes a score, so that older parts are not reused."""

PART_VERSION = 3
"""Version of the meaning of a part's columns; raise it with every change. 2: image_width, image_height, metadata,
cluster. 3: uids by content, and by every spelling of 128 bits."""

MAX_TASKS = 16_000
"""Largest number of score tasks of one job; more shards than that are grouped."""


class Sourced(FrozenModel):
    """A number and its source, for example `optimizer state` or `spec`."""

    value: float
    source: str


class PlannedRows(FrozenModel):
    """Rows of a Parquet, Arrow, csv, tsv or jsonl file that make a shard, and the columns that make a sample.

    Attributes:
        first, end: row groups of Parquet, or bytes of a csv, tsv or jsonl file, without `end`; None for the whole file.
        image: column with the image, or with its path below the file's folder.
        captions: columns with captions.
        key: column with the sample's key; None for keys made of the image's path or the row's number.
    """

    first: int | None = None
    end: int | None = None
    image: str
    captions: list[str]
    key: str | None = None


class PlannedShard(FrozenModel):
    """A shard as it was when the job was planned.

    Attributes:
        index: position in the pool's expanded list.
        size: bytes.
        etag: the storage's version tag or modification time, if it has one.
        expected: number of samples announced by the files beside the shard or its tar headers, or its number of rows.
        expected_source: `stats.json`, `sizes.json`, `parquet`, `shard index`, `tar headers` or `rows`.
        rows: how the shard's rows make samples; None for a tar.
    """

    index: int
    uri: str
    size: int
    etag: str | None = None
    expected: int | None = None
    expected_source: str | None = None
    rows: PlannedRows | None = Field(default=None, exclude_if=is_none)

    @property
    def label(self) -> str:
        """Its URI, with the slice of the file that it is, if it is not the whole one."""
        rows = self.rows
        return self.uri if rows is None or rows.first is None else f"{self.uri}#{rows.first}-{rows.end}"

    @property
    def name(self) -> str:
        """The last part of its label, by which parts name the shard."""
        return self.label.rsplit("/", 1)[-1]

    @property
    def draw_name(self) -> str:
        """The name that draws hash: a pool in another format is drawn from as its tars would be."""
        base = posixpath.basename(self.uri)
        return base if self.rows is None else f"{posixpath.splitext(base)[0]}.tar"


class PlannedCheckpoint(FrozenModel):
    """A checkpoint theta_t with the numbers that the estimators need.

    Attributes:
        step: t, optimiser steps done.
        lr: eta_t, the learning rate of step t.
        lr_sum: sum of the learning rates of the steps since the previous checkpoint (or since step 0).
        optimizer: `adamw` if the checkpoint holds Adam's second moments, else None: then P = 1.
    """

    index: int
    uri: str
    size: int
    sha256: str
    epoch: int | None
    step: Sourced
    lr: Sourced
    lr_sum: Sourced
    optimizer: str | None


class PlannedModel(FrozenModel):
    """The architecture; `config` is open_clip's complete model config.

    Attributes:
        force_image_size: size that a timm image tower is resized to after it is built; None leaves its own.
        loss: loss of the training, if it is not the one that the architecture suggests.
    """

    name: str
    config: dict[str, object]
    source: str
    preprocess: dict[str, object] = Field(default_factory=dict)
    preprocess_source: str = "open_clip defaults"
    # Left out of the JSON where they are None: plans that were made before they existed keep their ids.
    force_image_size: int | list[int] | None = Field(default=None, exclude_if=is_none)
    loss: str | None = Field(default=None, exclude_if=is_none)


class Plan(FrozenModel):
    """All that decides the scores. `id` is a hash of the other fields.

    Attributes:
        parameters: names of the parameters that count; None for all.
        trained: names of the parameters that the run trained, if it locked others; None for all.
        n_samples: N of the estimators, the size of the pool.
        reference_seed, reference_size: seed and size of the draw of B.
        part_version: version of the parts' columns; plans without it are of version 1.
        metadata: json fields that the parts store.
        clusters: number of clusters of similar images; 0 for none.
        captions: how several captions of an image are scored; None for the first alone.
        horizon: step of the last checkpoint that influence uses, `auto`, or None for the last one.
        clip_checkpoint: step of the checkpoint behind clip_score and neg_clip_loss, `horizon`, or None for the last
            one; without effect if there is a clip_model.
    """

    version: int = SCORING_VERSION
    shards: list[PlannedShard]
    caption_field: CaptionField
    checkpoints: list[PlannedCheckpoint]
    model: PlannedModel
    clip_model: PlannedModel | None
    clip_pretrained: str | None
    parameters: list[str] | None = None
    target: str | ValidationTarget
    target_shards: list[PlannedShard] = Field(default_factory=list[PlannedShard])
    reference_size: int
    reference_seed: int
    n_samples: Sourced
    scores: list[Score]
    seed: int
    part_version: int = 1
    metadata: list[str] = Field(default_factory=list[str])
    clusters: int = 0
    trained: list[str] | None = Field(default=None, exclude_if=is_none)
    horizon: Literal["auto"] | int | None = Field(default=None, exclude_if=is_none)
    clip_checkpoint: Literal["horizon"] | int | None = Field(default=None, exclude_if=is_none)
    captions: Captions | None = Field(default=None, exclude_if=is_none)

    @cached_property
    def id(self) -> str:
        """The content key: 32 hex digits of the sha256 of the canonical JSON. A plan of version 1 keeps its own.

        Computed once, since a plan of 128,000 shards has 21 MB of JSON and each task asks for the id.
        """
        unknown_then = {"part_version", "metadata", "clusters"} if self.part_version == 1 else None
        return hashlib.sha256(self.model_dump_json(exclude=unknown_then).encode()).hexdigest()[:32]

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy, which computes its own id."""
        copied = super().model_copy(update=update, deep=deep)
        vars(copied).pop("id", None)
        return copied

    @property
    def columns(self) -> PartColumns:
        """The columns of its parts."""
        return PartColumns(tuple(self.scores), tuple(self.metadata), self.clusters > 0, self.part_version > 1)

    @property
    def several_captions(self) -> bool:
        """Whether its parts have a row for each caption of an image."""
        return self.captions in ("best", "all")

    @property
    def subset_columns(self) -> list[str]:
        """The columns of a subset file: the scores, the caption and the metadata."""
        index = [CAPTION_INDEX] if self.several_captions else []
        return [*(score.value for score in self.scores), CAPTION, *index, *map(metadata_column, self.metadata)]

    def tasks(self) -> list[range]:
        """Return the shard indices of each score task: one shard per task, or more if there are more than MAX_TASKS."""
        total = len(self.shards)
        per_task = -(-total // MAX_TASKS)
        return [range(first, min(first + per_task, total)) for first in range(0, total, per_task)]

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        return cls.model_validate_json(text)
