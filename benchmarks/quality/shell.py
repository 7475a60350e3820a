"""The recipe's shell around other values than a spec can name: the target's shares of the clusters, copies last."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.quality.scored import Horizon, Scored
from coreset.selection.quota import CLASS_SHARE
from coreset.selection.ranking import open_samples
from coreset.storage.target_clusters import load_target_clusters

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Veto:
    """The share of each cluster that is left out first: the lowest by a score."""

    score: str
    share: float


@dataclass(frozen=True)
class Shell:
    """A value within the recipe's shell: the weighted mean of ranks, all within clusters.

    Attributes:
        weights: by score, or `norm_sim`.
        horizon: of the influence.
        veto: applied before anything is chosen.
    """

    weights: Mapping[str, float]
    horizon: Horizon = "lowest"
    veto: Veto | None = None
    target: str = "validation"


@dataclass(frozen=True)
class Samples:
    """The samples of a scored pool, in the order of their uids.

    Attributes:
        scores: (n,) by name.
        clusters: (n,) of each sample.
        members: the number of V's samples by cluster.
    """

    uids: list[str]
    captions: list[str]
    clusters: npt.NDArray[np.int64]
    scores: dict[str, Numbers]
    members: list[int]

    @classmethod
    def of(cls, scored: Scored, more: Mapping[str, Mapping[str, float]]) -> "Samples":
        """Read the scores, and add others by name and uid."""
        names = [score.value for score in scored.plan.scores]
        with open_samples(scored.storage, scored.plan) as db:
            columns = f"replace(uid::VARCHAR, '-', '') AS uid, caption, cluster::BIGINT AS cluster, {', '.join(names)}"
            found = db.execute(f"SELECT {columns} FROM samples ORDER BY uid").fetchnumpy()
        uids = [str(uid) for uid in found["uid"]]
        scores = {name: np.asarray(found[name], np.float64) for name in names}
        scores |= {name: np.array([values[uid] for uid in uids]) for name, values in more.items()}
        members = load_target_clusters(scored.storage, scored.plan)
        return cls(uids, [str(caption) for caption in found["caption"]], np.asarray(found["cluster"]), scores, members)

    def chosen(self, rule: Shell, k: int) -> tuple[str, ...]:
        """Return the k uids that a rule keeps."""
        value = sum(weight * ranks_within(self.scores[name], self.clusters) for name, weight in rule.weights.items())
        kept = np.arange(len(self.uids))
        if rule.veto is not None:
            kept = kept[ranks_within(self.scores[rule.veto.score], self.clusters) >= rule.veto.share]
        order = kept[np.argsort(-np.asarray(value)[kept], kind="stable")]
        copies = _places([self.captions[i] for i in order], most=CLASS_SHARE * len(order))
        order, copies = order[np.argsort(copies, kind="stable")], np.sort(copies, kind="stable")
        clusters = self.clusters[order]
        sizes, wanted = np.bincount(clusters, minlength=len(self.members)), np.array(self.members or [0])
        weight = wanted + len(wanted) * sizes / len(order)
        turn = (_places(list(clusters)) - 0.5) / weight[clusters]
        return tuple(self.uids[i] for i in order[np.lexsort((copies, turn))][:k])


def ranks_within(score: Numbers, groups: npt.NDArray[np.int64]) -> Numbers:
    """Return the share of each sample's group that is lower, itself by half, (n,)."""
    found = np.empty(len(score))
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        found[rows] = (np.argsort(np.argsort(score[rows], kind="stable"), kind="stable") + 0.5) / len(rows)
    return found


def _places(groups: list[object], most: float = np.inf) -> Numbers:
    """Return each sample's place in its group, from 1 on; 1 for all samples of a group of at least `most`."""
    seen: dict[object, int] = {}
    places: list[int] = []
    for group in groups:
        seen[group] = seen.get(group, 0) + 1
        places.append(seen[group])
    return np.array([1 if seen[group] >= most else place for group, place in zip(groups, places, strict=True)], float)
