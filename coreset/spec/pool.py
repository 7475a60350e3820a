"""Pools of image-text pairs, as a job spec names them."""

import re
from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator

from coreset.spec.base import FrozenModel

Uri = Annotated[str, StringConstraints(min_length=1, max_length=4096, strip_whitespace=True)]

_FORBIDDEN_URI = re.compile(r"(^|::)\s*pipe:", re.IGNORECASE)


def _refuse_pipe(uri: str) -> str:
    if _FORBIDDEN_URI.search(uri):
        raise ValueError("pipe: would run a shell command; give the object's own URI (s3://, gs://, https://)")
    return uri


class PoolSpec(FrozenModel):
    """A pool of image-text pairs in WebDataset shards.

    Attributes:
        shards: shard URIs, each with optional brace ranges (`{000000..000123}`) and `a::b` concatenation. One that ends
            in `.json` is an index of shards, as webdataset's `widsindex` writes it, whose sizes and counts are taken.
        caption_field: take the caption from this field of the json member, not from the txt member.
    """

    shards: list[Uri] = Field(min_length=1, max_length=100_000, examples=[["pool/{000000..000005}.tar"]])
    caption_field: str | None = Field(default=None, min_length=1, max_length=200)

    @field_validator("shards", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("shards")
    @classmethod
    def _no_pipe(cls, value: list[str]) -> list[str]:
        return [_refuse_pipe(uri) for uri in value]


class ScoredPoolSpec(PoolSpec):
    """The pool that is scored.

    Attributes:
        shards, caption_field: as in PoolSpec.
        metadata: fields of the json members to store beside the scores, as text, in the columns `metadata_FIELD`;
            selections can filter by them and set quotas on them.
    """

    metadata: list[Annotated[str, StringConstraints(pattern=r"^[\w-]{1,100}$")]] = Field(
        default_factory=list[str], max_length=64, examples=[["language"]]
    )

    @field_validator("metadata")
    @classmethod
    def _no_duplicates(cls, value: list[str]) -> list[str]:
        if len({field.casefold() for field in value}) < len(value):
            raise ValueError("two fields have the same name, upper and lower case being equal; remove one of them")
        return value
