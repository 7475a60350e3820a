"""Counts of a job's samples by group: cluster, shard, or value of a metadata field."""

from coreset.spec.base import FrozenModel

MAX_GROUPS = 100
"""Largest number of groups that are listed."""


class GroupCount(FrozenModel):
    """One group.

    Attributes:
        value: its value of the field; None for the samples without one.
        samples: number of its samples with scores.
        kept: number of its samples in the job's selection, each counted once.
        example: caption of its sample with the highest first score, CLIP score if the job has it.
    """

    value: str | None
    samples: int
    kept: int
    example: str | None = None


class GroupCounts(FrozenModel):
    """The groups of a field, the largest first.

    Attributes:
        fields: the fields that group this job's samples.
        total: number of groups; MAX_GROUPS of them are listed.
    """

    field: str
    fields: list[str]
    total: int
    groups: list[GroupCount]
