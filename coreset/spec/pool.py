"""Pools of image-text pairs, as a job spec names them."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from coreset.spec.base import FrozenModel

Uri = Annotated[str, StringConstraints(min_length=1, max_length=4096, strip_whitespace=True)]

_FORBIDDEN_URI = re.compile(r"(^|::)\s*pipe:", re.IGNORECASE)


def _refuse_pipe(uri: str) -> str:
    if _FORBIDDEN_URI.search(uri):
        raise ValueError("pipe: would run a shell command; give the object's own URI (s3://, gs://, https://)")
    return uri


FieldName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
CaptionField = FieldName | Annotated[list[FieldName], Field(min_length=1, max_length=64)] | None
"""The json field or column of the captions, or several of them in their order."""

Captions = Literal["best", "all", "first"]


def is_none(value: object) -> bool:
    return value is None


class PoolSpec(FrozenModel):
    """A pool of image-text pairs: WebDataset shards, or files of rows with images or their paths (docs/pools.md).

    Attributes:
        shards: URIs of .tar, .parquet, .arrow, .csv, .tsv or .jsonl files, each with optional brace ranges
            (`{000000..000123}`) and `a::b` concatenation; or folders of such files; or .json indexes of shards, as
            webdataset's `widsindex` writes them, whose sizes and counts are taken.
        caption_field: take the caption from this field of the json member, not from the txt member; the column of the
            captions in files of rows, where it can be left out if it has a usual name. A list names several fields.
        image_field: the column of the images, or of their paths, in files of rows; it can be left out if it has a
            usual name.
    """

    shards: list[Uri] = Field(min_length=1, max_length=100_000, examples=[["pool/{000000..000005}.tar"]])
    caption_field: CaptionField = None
    # Left out of the JSON where it is None: plans that were made before it existed keep their ids.
    image_field: str | None = Field(default=None, min_length=1, max_length=200, exclude_if=is_none)

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
        shards, caption_field, image_field: as in PoolSpec.
        metadata: fields of the json members to store beside the scores, as text, in the columns `metadata_FIELD`;
            selections can filter by them and set quotas on them.
        captions: which captions to score of an image that has several (in the fields, in lists there, or in the members
            `txt`, `1.txt`, `2.txt` and so on): `best` scores every pair and keeps of each image the one that the rule
            ranks highest, `all` takes every pair for a sample, `first` the first caption alone. If it is left out, it
            is `best` for a list in `caption_field`, else there is one caption.
    """

    metadata: list[Annotated[str, StringConstraints(pattern=r"^[\w-]{1,100}$")]] = Field(
        default_factory=list[str], max_length=64, examples=[["language"]]
    )

    # Left out of the JSON where it is None: plans that were made before it existed keep their ids.
    captions: Captions | None = Field(default=None, exclude_if=is_none)

    @model_validator(mode="after")
    def _best_of_several(self) -> Self:
        if isinstance(self.caption_field, list) and self.captions is None:
            object.__setattr__(self, "captions", "best")  # the model is frozen, but not yet returned
        return self

    @field_validator("metadata")
    @classmethod
    def _no_duplicates(cls, value: list[str]) -> list[str]:
        if len({field.casefold() for field in value}) < len(value):
            raise ValueError("two fields have the same name, upper and lower case being equal; remove one of them")
        return value
