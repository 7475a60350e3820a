"""Samples with everything that selections look at, as parts of a plan, and the same selection in slow, plain Python."""

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from coreset.schemas.manifest import File, ShardSummary
from coreset.schemas.part import part_schema
from coreset.schemas.plan import PART_VERSION, Plan, PlannedModel, PlannedShard, Sourced
from coreset.spec.scores import Score
from coreset.spec.selection import SelectSpec
from coreset.storage.layout import PlanFolder
from coreset.storage.storage import Storage
from coreset.storage.verified import write_json

Row = dict[str, Any]
SCORES = [Score.CLIP_SCORE, Score.RANDOM]


def plan_of(shards: int, **fields: Any) -> Plan:
    known = {"part_version": PART_VERSION, "metadata": ["lang"], "clusters": 4, "scores": SCORES, "checkpoints": []}
    return Plan(
        shards=[PlannedShard(index=i, uri=f"/pool/{i}.tar", size=1) for i in range(shards)],
        caption_field=None,
        model=PlannedModel(name="m", config={}, source="spec"),
        clip_model=None,
        clip_pretrained=None,
        target="training",
        reference_size=32,
        reference_seed=0,
        n_samples=Sourced(value=1, source="tar headers"),
        seed=0,
        **(known | fields),
    )


def write_parts(storage: Storage, plan: Plan, shards: Sequence[Sequence[Row]]) -> list[Row]:
    """Write a part a shard, each with a bad sample besides, and return the good rows in the order of the pool."""
    found: list[Row] = []
    for index, rows in enumerate(shards):
        where = {"shard": f"{index}.tar", "uid_source": "json"}
        good = [{**where, "key": f"{i:03}", "row": i, "status": "ok", **row} for i, row in enumerate(rows)]
        bad = {**where, "uid": "b" * 32, "key": "bad", "row": len(rows), "status": "bad_image", "caption": "a b"}
        part = pa.Table.from_pylist([*good, bad], part_schema(plan))
        name = PlanFolder(plan.id).part(index)
        file = storage.write_with(name, lambda file, part=part: pq.write_table(part, file), len(part))
        write_summary(storage, plan, index, file)
        found += part.to_pylist()[:-1]
    return found


def write_summary(storage: Storage, plan: Plan, shard: int, part: File) -> None:
    """Write the summary of a part whose samples nobody counts."""
    summary = ShardSummary(
        shard=shard, uri=plan.shards[shard].uri, part=part, read=0, scored=0, seconds=0, device="cpu"
    )
    write_json(storage, PlanFolder(plan.id).summary(shard), summary.model_dump_json())


class Slow(NamedTuple):
    """What the slow selection finds: uids by rank and their values, and the counts."""

    kept: list[str]
    values: list[float]
    rankable: int
    duplicates: int
    filtered: int


class Refused(Exception):
    """There are not so many samples."""


def slow_select(rows: list[Row], spec: SelectSpec, target: list[int]) -> Slow:
    """Select without chance. Raises Refused."""
    passed = [row for row, good in zip(rows, _passing(rows, spec), strict=True) if good]
    if not passed:
        raise Refused
    values = _values(passed, spec)
    best: dict[str, tuple[float, Row]] = {}
    for row, value in zip(passed, values, strict=True):
        if row["uid"] not in best or value > best[row["uid"]][0]:
            best[row["uid"]] = (value, row)
    order = sorted(best, key=lambda uid: (-best[uid][0], uid))
    groups = {uid: _group(best[uid][1], spec) for uid in best}
    order = _copies_last(order, best, spec)
    kept = _cut(order, {uid: value for uid, (value, _) in best.items()}, groups, spec, target)
    order = sorted(best, key=lambda uid: (-best[uid][0], uid))
    kept = sorted(kept, key=order.index)
    return Slow(kept, [best[uid][0] for uid in kept], len(best), len(passed) - len(best), len(rows) - len(passed))


def _passing(rows: list[Row], spec: SelectSpec) -> list[bool]:
    passing = [True] * len(rows)
    for name, wanted in spec.filters.items():
        ranks = mean_ranks([row[name] for row in rows]) if wanted.by_rank else [0.0] * len(rows)
        for i, row in enumerate(rows):
            number, label = _number(row, name), row.get(name)
            low, high = wanted.min, wanted.max
            if name in SCORES:
                low, high = (None if b is None else float(np.float32(b)) for b in (low, high))
            passing[i] &= low is None or (number is not None and number >= low)
            passing[i] &= high is None or (number is not None and number <= high)
            passing[i] &= wanted.min_rank is None or ranks[i] >= wanted.min_rank
            passing[i] &= wanted.max_rank is None or ranks[i] <= wanted.max_rank
            passing[i] &= wanted.any_of is None or (label is not None and str(label) in map(str, wanted.any_of))
            passing[i] &= wanted.none_of is None or label is None or str(label) not in map(str, wanted.none_of)
    return passing


def _number(row: Row, name: str) -> float | None:
    if name in ("caption_length", "caption_words"):
        return len(row["caption"]) if name == "caption_length" else len(row["caption"].split())
    if name.startswith("metadata_"):
        try:
            number = float(row[name])
        except (TypeError, ValueError):
            return None
        return number if math.isfinite(number) else None
    if name in ("image_short_side", "aspect_ratio"):
        sides = sorted([row["image_width"], row["image_height"]])
        return sides[0] if name == "image_short_side" else sides[1] / sides[0]
    found = row[name]
    return found if isinstance(found, int | float) else None


def mean_ranks(values: list[float]) -> list[float]:
    """Ranks scaled to 0..1, ties sharing their mean: counted one by one."""
    below = [sum(w < v for w in values) + (sum(w == v for w in values) - 1) / 2 for v in values]
    return [rank / max(1, len(values) - 1) for rank in below]


def _ranks_within(values: list[float], groups: list[Any]) -> list[float]:
    """The share of each value's group that is lower, of ties the half."""
    found: list[float] = []
    for value, group in zip(values, groups, strict=True):
        others = [v for v, g in zip(values, groups, strict=True) if g == group]
        found.append((sum(v < value for v in others) + sum(v == value for v in others) / 2) / len(others))
    return found


def _values(rows: list[Row], spec: SelectSpec) -> list[float]:
    terms: list[tuple[float, list[float]]] = []
    for score, weight in spec.by.items():
        column = _winsorised([row[score] for row in rows], spec.winsorise)
        if spec.scale == "rank":
            groups = [row[spec.rank_groups[score]] for row in rows] if score in spec.rank_groups else None
            ranks = mean_ranks(column) if groups is None else _ranks_within(column, groups)
            terms.append((abs(weight), ranks if weight > 0 else [1 - rank for rank in ranks]))
            continue
        mean, deviation = (0.0, 1.0) if spec.scale == "raw" else _moments(column)
        terms.append((weight, [(value - mean) / deviation for value in column]))
    columns = list(zip(*(column for _, column in terms), strict=True))
    if spec.combine != "mix":
        return [(min if spec.combine == "intersection" else max)(values) for values in columns]
    weights = [weight for weight, _ in terms]
    total = sum(map(abs, weights))
    return [sum(w * v for w, v in zip(weights, values, strict=True)) / total for values in columns]


def _winsorised(values: list[float], share: float) -> list[float]:
    if not share:
        return values
    ordered = sorted(values)
    low, high = (ordered[max(0, math.ceil(q * len(values)) - 1)] for q in (share, 1 - share))
    return [min(max(value, low), high) for value in values]


def _moments(values: list[float]) -> tuple[float, float]:
    mean, deviation = np.mean(values), np.std(values)
    return float(np.float32(mean)), float(np.float32(deviation)) or 1.0


def _group(row: Row, spec: SelectSpec) -> Any:
    return None if spec.quota is None else row[spec.quota.field]


def _copies_last(order: list[str], best: dict[str, tuple[float, Row]], spec: SelectSpec) -> list[str]:
    """The first of each label, then the second of each, and so on; but a label of a hundredth of all is a class."""
    if spec.distinct is None:
        return order
    own = [best[uid][1][spec.distinct] for uid in order]
    copy = [1 if own.count(label) >= 0.01 * len(own) else own[: i + 1].count(label) for i, label in enumerate(own)]
    return [order[i] for i in sorted(range(len(order)), key=lambda i: (copy[i], i))]


def _cut(
    order: list[str], values: dict[str, float], groups: dict[str, Any], spec: SelectSpec, target: list[int]
) -> list[str]:
    """Take them one by one. Raises Refused."""
    k = spec.k if spec.k is not None else round((spec.fraction or 0) * len(order)) or 1
    if spec.threshold is not None:
        order = [uid for uid in order if values[uid] >= spec.threshold]
        k = len(order)
    if k == 0 or k > len(order):
        raise Refused
    if spec.quota is None:
        return order[:k]
    if spec.quota.balance:
        return _balanced(order, groups, spec.quota.balance, target)[:k]
    if spec.quota.shares:
        return _shared(order, groups, spec.quota.shares, k)
    most = spec.quota.max or max(1, math.floor((spec.quota.max_share or 0) * k + 1e-9))
    taken: Counter[Any] = Counter()
    allowed = []
    for uid in order:
        taken[groups[uid]] += 1
        allowed += [uid] if taken[groups[uid]] <= most else []
    if len(allowed) < k and spec.threshold is None:
        raise Refused
    return allowed[:k]


def _balanced(order: list[str], groups: dict[str, Any], balance: str, target: list[int]) -> list[str]:
    members: dict[Any, list[str]] = defaultdict(list)
    for uid in order:
        members[groups[uid]].append(uid)
    places = {uid: i for each in members.values() for i, uid in enumerate(each)}
    if balance == "equal":
        return sorted(order, key=lambda uid: (places[uid], order.index(uid)))
    sizes = {label: len(each) for label, each in members.items()}
    if balance == "target" and target:
        pool = {label: len(target) * size / len(order) for label, size in sizes.items()}
        sizes = {label: (target[label] if label < len(target) else 0) + more for label, more in pool.items()}
    return sorted(order, key=lambda uid: ((places[uid] + 0.5) / sizes[groups[uid]], order.index(uid)))


def _shared(order: list[str], groups: dict[str, Any], shares: dict[str, float], k: int) -> list[str]:
    upto = [round(share * k) for share in accumulate(shares.values())]
    wanted = {label: upto[i] - (upto[i - 1] if i else 0) for i, label in enumerate(shares)}
    rest = k - sum(wanted.values())
    kept: list[str] = []
    for label, count in wanted.items():
        found = [uid for uid in order if str(groups[uid]) == label and groups[uid] is not None][:count]
        if len(found) < count:
            raise Refused
        kept += found
    others = [uid for uid in order if groups[uid] is None or str(groups[uid]) not in shares][:rest]
    if len(others) < rest:
        raise Refused
    return kept + others


def expected_times(values: Sequence[float], temperature: float, most: int, k: int) -> list[float]:
    """How often each is drawn on average: by the exact solution for the number of those that are drawn most often."""
    weights = [math.exp((value - max(values)) / temperature) for value in values]
    ordered = sorted(weights, reverse=True)
    sums = [*accumulate(reversed(ordered))][::-1]
    full = bisect_left(range(len(ordered)), True, key=lambda j: (k - j * most) * ordered[j] / sums[j] <= most)
    scale = (k - full * most) / sums[full] if full < len(ordered) else 0.0
    limit = ordered[full - 1] if full else math.inf
    return [most if weight >= limit else scale * weight for weight in weights]
