"""DataComp's subset array of given uids, built as its own tools build it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from coreset.uids import SUBSET_DTYPE


def to_subset(uids: Sequence[str]) -> npt.NDArray[np.void]:
    """Return the sorted array of the uids' high and low halves."""
    return np.array(sorted((int(uid[:16], 16), int(uid[16:], 16)) for uid in uids), SUBSET_DTYPE)
