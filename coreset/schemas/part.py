"""The schema of a part: a Parquet file with one row per sample of a shard, bad ones too, in the order of the tar."""

from enum import StrEnum
from typing import TYPE_CHECKING

from coreset.schemas.plan import Plan
from coreset.spec.base import FrozenModel
from coreset.spec.columns import CAPTION_INDEX, CLUSTER, metadata_column
from coreset.spec.scores import ESTIMATORS

if TYPE_CHECKING:
    import pyarrow as pa


class SampleStatus(StrEnum):
    """Outcome of a sample. All but `ok` are bad: they have null scores and are counted by status."""

    OK = "ok"
    NO_IMAGE = "no_image"  # no jpg, png, jpeg or webp member
    NO_CAPTION = "no_caption"  # no txt member, or the json lacks the caption field
    EMPTY_CAPTION = "empty_caption"  # nothing left after strip
    BAD_CAPTION = "bad_caption"  # not utf-8, too long, or the json cannot be parsed
    BAD_IMAGE = "bad_image"  # the decoder cannot read it
    IMAGE_TOO_LARGE = "image_too_large"  # more pixels than the limit
    NON_FINITE = "non_finite"  # decoded, but a score is not a finite number


class UidSource(StrEnum):
    JSON = "json"  # the uid field of the sample's json member
    CONTENT = "content"  # coreset.uids.of_content
    DERIVED = "derived"  # sha256 of the shard's name and the key; only in parts older than version 3


class OddityKind(StrEnum):
    """What a shard holds that was left aside or replaced, and that a caller should know of."""

    IGNORED_MEMBER = "ignored_member"  # hidden (`._` of macOS), without key or extension, a link, webdataset's own
    DOTTED_KEY = "dotted_key"  # an image whose key has a dot: webdataset takes what follows for the extension
    UNUSABLE_UID = "unusable_uid"  # the uid in the json member is not a 128-bit number
    UNREADABLE_ROW = "unreadable_row"  # no JSON object, or more values than the csv has columns
    UNREADABLE_PATH = "unreadable_path"  # an image's path that leads to no file, or out of its folder


class Oddity(FrozenModel):
    """How often something odd was met, and the first example."""

    count: int
    example: str


def part_schema(plan: Plan) -> "pa.Schema":
    """Return the Arrow schema of a plan's parts.

    Columns: uid, shard (basename), key, row (position in the shard, from 0), uid_source, status, caption,
    caption_index (position among the captions of an image, if the plan scores several), image_width
    and image_height (pixels of the stored image, null if none was opened), `metadata_<field>` (text, null if the
    sample's json has no such text, number or truth value), cluster (null in bad samples), then one nullable float32
    column per score, then for each estimator `<score>_by_checkpoint`, its terms (m,), in step order.
    Parts of version 1 lack the columns between caption and the scores.
    """
    import pyarrow as pa  # here, so that a client can import the statuses without it

    terms = pa.list_(pa.float32(), len(plan.checkpoints))
    sizes = ["image_width", "image_height"] if plan.part_version > 1 else []
    return pa.schema(
        [
            pa.field("uid", pa.string(), nullable=False),
            pa.field("shard", pa.string(), nullable=False),
            pa.field("key", pa.string(), nullable=False),
            pa.field("row", pa.int64(), nullable=False),
            pa.field("uid_source", pa.string(), nullable=False),
            pa.field("status", pa.string(), nullable=False),
            pa.field("caption", pa.string()),
            *([pa.field(CAPTION_INDEX, pa.int32())] if plan.several_captions else []),
            *(pa.field(name, pa.int32()) for name in sizes),
            *(pa.field(metadata_column(field), pa.string()) for field in plan.metadata),
            *([pa.field(CLUSTER, pa.int32())] if plan.clusters else []),
            *(pa.field(score.value, pa.float32()) for score in plan.scores),
            *(pa.field(f"{score.value}_by_checkpoint", terms) for score in plan.scores if score in ESTIMATORS),
        ]
    )
