"""The part: one Parquet file with a row for every sample of a shard, bad ones too, in the order of the tar."""

from collections.abc import Sequence
from enum import StrEnum

import pyarrow as pa

from coreset.scores import ESTIMATORS, Score


class SampleStatus(StrEnum):
    """What became of a sample. All but `ok` are bad: they have null scores and a place in the counts."""

    OK = "ok"
    NO_IMAGE = "no_image"  # no jpg, png, jpeg or webp member
    NO_CAPTION = "no_caption"  # no txt member, or the json lacks the caption field
    EMPTY_CAPTION = "empty_caption"  # nothing left after strip
    BAD_CAPTION = "bad_caption"  # not utf-8, or the json cannot be parsed
    BAD_IMAGE = "bad_image"  # the decoder refuses it
    IMAGE_TOO_LARGE = "image_too_large"  # more pixels than the limit
    NON_FINITE = "non_finite"  # decoded, but a score is not a finite number


class UidSource(StrEnum):
    JSON = "json"  # the uid field of the sample's json member
    DERIVED = "derived"  # coreset.uids.derive


def part_schema(scores: Sequence[Score], checkpoints: int) -> pa.Schema:
    """Return the Arrow schema of a part.

    Columns: uid, shard (basename), key, row (position in the shard, from 0), uid_source, status, caption, then one
    nullable float32 column a score, then for each estimator `<score>_by_checkpoint`, its terms (m,), in step order.
    """
    terms = pa.list_(pa.float32(), checkpoints)
    return pa.schema(
        [
            pa.field("uid", pa.string(), nullable=False),
            pa.field("shard", pa.string(), nullable=False),
            pa.field("key", pa.string(), nullable=False),
            pa.field("row", pa.int64(), nullable=False),
            pa.field("uid_source", pa.string(), nullable=False),
            pa.field("status", pa.string(), nullable=False),
            pa.field("caption", pa.string()),
            *(pa.field(score.value, pa.float32()) for score in scores),
            *(pa.field(f"{score.value}_by_checkpoint", terms) for score in scores if score in ESTIMATORS),
        ]
    )
