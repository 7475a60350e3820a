"""Samples of a pool in memory at a proxy's resolution: decoded once, trained on many times."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from coreset.schemas.part import SampleStatus
from coreset.schemas.plan import PlannedShard
from coreset_workers.data.loader import Loader
from coreset_workers.data.shards import open_shard
from coreset_workers.model.inputs import RUN


@dataclass(frozen=True)
class DecodedSamples:
    """Good samples with distinct uids, in the order of the shards.

    Attributes:
        uids, captions: (n,) each.
        images: (n, 3, S, S) uint8.
        tokens: (n, L) int64.
    """

    uids: list[str]
    captions: list[str]
    images: Tensor
    tokens: Tensor

    def __len__(self) -> int:
        return len(self.uids)

    def without(self, uids: Collection[str]) -> "DecodedSamples":
        """Return the samples with other uids."""
        rows = [row for row, uid in enumerate(self.uids) if uid not in uids]
        of = torch.tensor(rows, dtype=torch.int64)
        kept = [self.uids[row] for row in rows], [self.captions[row] for row in rows]
        return DecodedSamples(*kept, self.images[of], self.tokens[of])


def decode_shards(
    shards: Iterable[PlannedShard], loader: Loader, advance: Callable[[], object] = lambda: None
) -> DecodedSamples:
    """Decode the shards by the loader's view `run`.

    Args:
        advance: called after each sample.

    Raises:
        ShardUnreadable: names the shard.
    """
    found: dict[str, tuple[str, np.ndarray, np.ndarray]] = {}
    for shard in shards:
        for sample in loader.decode(open_shard(shard)):
            advance()
            if sample.status is SampleStatus.OK:
                found.setdefault(sample.uid, (sample.caption or "", sample.images[RUN], sample.tokens[RUN]))
    captions, images, tokens = zip(*found.values(), strict=True) if found else ((), (), ())
    return DecodedSamples(list(found), list(captions), *(torch.from_numpy(np.stack(a)) for a in (images, tokens)))
