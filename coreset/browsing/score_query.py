"""The query of an export of scores: which rows of a job's parts, and which columns."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, FiniteFloat, StringConstraints, model_validator

from coreset.schemas.part import SampleStatus
from coreset.spec.base import FrozenModel
from coreset.spec.columns import MAX_COUNT, float32
from coreset.spec.scores import Score

Format = Literal["ndjson", "csv", "parquet", "arrow"]
Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{1,32}$", to_lower=True)]
Uid = Annotated[Hex, AfterValidator(lambda uid: uid.zfill(32))]


class ScoreQuery(FrozenModel):
    """Conditions on rows, all of which must be met, and the columns to return.

    Attributes:
        uid: samples; each must exist.
        uid_from, uid_to: range of uids, inclusive, by their first digits: from=ab&to=ab is every uid that starts so.
        shard: base name of the shard.
        status: ok, or the reason why a sample is bad.
        score, min, max: a score and the range of its value.
        fields: names of columns, separated by commas; default: all but the terms by checkpoint.
        limit: largest number of rows.
        format: format of the answer, for callers that cannot send an Accept header.
    """

    uid: list[Uid] = Field(default_factory=list[Uid], max_length=1000)
    uid_from: Hex | None = None
    uid_to: Hex | None = None
    shard: str | None = Field(default=None, max_length=4096)
    status: SampleStatus | None = None
    score: Score | None = None
    min: FiniteFloat | None = None
    max: FiniteFloat | None = None
    fields: str | None = Field(default=None, min_length=1, max_length=10_000, examples=["uid,diffin,clip_score"])
    limit: int | None = Field(default=None, ge=1, le=MAX_COUNT)
    format: Format | None = None

    @model_validator(mode="after")
    def _range_of_a_score(self) -> Self:
        if self.score is None and (self.min is not None or self.max is not None):
            raise ValueError("`min` and `max` bound a score: give `score` too")
        return self

    def conditions(self) -> list[tuple[str, object]]:
        """Return the conditions as SQL with one parameter each, and the parameter."""
        score = f'"{self.score}"'
        return [
            (sql, value)
            for sql, value in (
                ("list_contains(?::VARCHAR[], uid)", self.uid or None),
                ("uid >= ?", self.uid_from and self.uid_from.ljust(32, "0")),
                ("uid <= ?", self.uid_to and self.uid_to.ljust(32, "f")),
                ("shard = ?", self.shard),
                ("status = ?", self.status and self.status.value),
                (f"{score} >= ?", None if self.min is None else float32(self.min)),
                (f"{score} <= ?", None if self.max is None else float32(self.max)),
                (f"{score} IS NOT NULL AND ?", True if self.score else None),
            )
            if value is not None
        ]
