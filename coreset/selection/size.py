"""Number of samples that a selection keeps."""

from coreset.errors import InvalidSpec
from coreset.spec.columns import float32
from coreset.spec.selection import SelectSpec


def kept_size(spec: SelectSpec, rankable: int) -> int | None:
    """Return k, or None if a threshold decides. Raises InvalidSpec if k samples cannot be ranked."""
    if spec.threshold is not None:
        return None
    k = spec.k if spec.k is not None else max(1, round((spec.fraction or 0) * rankable))
    repeats = spec.sampling.max_repeats if spec.sampling else 1
    if k > rankable * repeats:
        often = f", {repeats} times each" if repeats > 1 else ""
        raise InvalidSpec(
            f"k is {k:,}, but only {rankable:,} samples can be ranked{often}. Give a smaller k, or a `fraction`.",
            field="k",
            got=k,
            rankable=rankable,
        )
    return k


def threshold_of(spec: SelectSpec) -> float:
    """Return the threshold, for one raw score in its precision, so that a value read from a part reaches itself."""
    assert spec.threshold is not None
    return float32(spec.threshold) if spec.scale == "raw" and len(spec.by) == 1 else spec.threshold
