"""Training on a coreset from the pool's own shards: a filter for webdataset samples, and open_clip's trainer with it.

python -m coreset.train SUBSET.NPY --dataset-type webdataset --train-data SHARDS --train-num-samples K ...
"""

import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coreset import uids
from coreset.errors import InvalidInput, needs_extra
from coreset.members import image_of, metadata_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Sample = dict[str, Any]
"""Members of a webdataset sample by extension, not yet decoded, and its `__key__`."""


class Copies:
    """Number of copies of each uid of a subset, in sorted arrays: 20 bytes per uid.

    Args:
        subset: (k,) of dtype u8,u8, as in `subset.npy`; a uid that was drawn several times is there as often.
    """

    def __init__(self, subset: "npt.NDArray[np.void]") -> None:
        import numpy as np

        high, low = subset["f0"], subset["f1"]
        order = np.lexsort((low, high))
        high, low = high[order], low[order]
        first = np.ones(len(high), dtype=bool)
        first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        starts = np.flatnonzero(first)
        self._high, self._low = high[starts], low[starts]
        self._counts = np.diff(starts, append=len(high)).astype(np.uint32)

    def __len__(self) -> int:
        """Return the number of distinct uids."""
        return len(self._high)

    def of(self, uid: str) -> int:
        """Return the number of copies of a uid of 32 hex digits; 0 if the subset does not have it."""
        high, low = int(uid[:16], 16), int(uid[16:], 16)
        at = bisect_left(self._high, high)
        while at < len(self._high) and int(self._high[at]) == high:
            if int(self._low[at]) == low:
                return int(self._counts[at])
            at += 1
        return 0


def uid_of(sample: Mapping[str, Any], caption_field: str | None = None) -> str:
    """Return a sample's uid by the rule of a job: the json member's, else one of the image's and caption's bytes.

    Args:
        caption_field: the job's `pool.caption_field`: the json member's field that has the caption in place of `txt`.
    """
    metadata = metadata_of(sample) or {}
    if (uid := uids.normalise(metadata.get("uid"))) is not None:
        return uid
    image = image_of(sample) or b""
    if caption_field is None:
        return uids.of_content(image, sample.get("txt", b""))
    caption = metadata.get(caption_field)
    text = caption if isinstance(caption, str) else ""
    return uids.of_content(image, text.encode(errors="surrogatepass"))


def keep(
    subset: "str | Path | npt.NDArray[np.void]", caption_field: str | None = None
) -> Callable[[Iterable[Sample]], Iterator[Sample]]:
    """Return a webdataset stage that yields the samples of a subset, each as often as it was drawn.

    The stage goes where samples are bytes still: after `tarfile_to_samples`, before `decode`.

    Args:
        subset: path of a job's `subset.npy`, or its array.
        caption_field: the job's `pool.caption_field`, for samples whose json member has no uid.

    Raises:
        InvalidInput: no such file, or not a subset file; numpy is not installed.
    """
    copies = Copies(uids.read_subset(Path(subset)) if isinstance(subset, str | Path) else subset)

    def stage(samples: Iterable[Sample]) -> Iterator[Sample]:
        for sample in samples:
            for _ in range(copies.of(uid_of(sample, caption_field))):
                yield dict(sample)

    return stage


def filter_open_clip(subset: "str | Path | npt.NDArray[np.void]", caption_field: str | None = None) -> None:
    """Make open_clip's trainer read the subset's samples alone, in this process and its data loaders.

    open_clip's own reader fails with webdataset 1.x, which marks the end of a shard by an empty sample; webdataset's
    reader takes its place.

    Raises:
        InvalidInput: as `keep`; open_clip_train or webdataset is not installed.
    """
    with needs_extra("demo", "training with open_clip"):
        data: Any = import_module("open_clip_train.data")
        webdataset: Any = import_module("webdataset")

    read = webdataset.tarfile_to_samples(handler=data.log_and_continue)
    select = keep(subset, caption_field)

    def kept(shards: Iterable[Any]) -> Iterator[Sample]:
        return select(read(shards))

    data.tarfile_to_samples_nothrow = kept  # the name that the trainer looks up


def main() -> None:
    """Run open_clip's trainer on a subset: SUBSET.NPY, then the trainer's own options."""
    if len(sys.argv) < 3 or sys.argv[1].startswith("-"):
        print(
            f"usage: python -m coreset.train SUBSET.NPY OPTIONS OF open_clip_train.main\n\n{__doc__}", file=sys.stderr
        )
        sys.exit(2)
    try:
        filter_open_clip(sys.argv[1])
        trainer: Any = import_module("open_clip_train.main")
    except InvalidInput as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    trainer.main(sys.argv[2:])


if __name__ == "__main__":
    main()
