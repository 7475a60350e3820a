"""Counts of shards add up, and in whatever tree they are merged the outcome is the same."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from coreset.queue.merge_tree import merge_levels
from coreset.schemas.manifest import File, ShardSummary
from coreset.schemas.plan import PlannedShard
from coreset_workers.stages.merge import Counts, merge_counts

REASONS = ("bad_image", "empty_caption", "no_image")
Outcome = tuple[int, dict[str, int], int | None, bool]
"""Of a shard: samples scored, bad ones by reason, samples announced, whether the tar is damaged."""

outcomes = st.none() | st.tuples(
    st.integers(0, 50),
    st.dictionaries(st.sampled_from(REASONS), st.integers(1, 9)),
    st.none() | st.integers(0, 100),
    st.booleans(),
)


def counted(index: int, outcome: Outcome | None) -> Counts:
    """The counts of one shard; an outcome of None is a shard that has failed."""
    shard = PlannedShard(index=index, uri=f"/pool/{index:06d}.tar", size=1)
    if outcome is None:
        return Counts.of(shard, None)
    scored, bad, expected, damaged = outcome
    read = scored + sum(bad.values())
    summary = ShardSummary(
        shard=index,
        uri=shard.uri,
        part=File(uri=f"/parts/{index:06d}.parquet", rows=read, size=1, sha256="0"),
        read=read,
        scored=scored,
        bad=bad,
        expected=expected,
        damage="cut off" if damaged else None,
        seconds=0.25 * index,  # sums of quarters are exact in any order
        device="cpu" if index % 2 else "H200",
    )
    return Counts.of(shard, summary)


def merged_in_tree(counts: list[Counts]) -> Counts:
    """As the queue's tasks do it."""
    below = counts
    for nodes in merge_levels(len(counts)):
        below = [merge_counts([below[child] for child in node]) for node in nodes]
    return merge_counts(below)


@given(st.lists(outcomes, min_size=1, max_size=6), st.integers(1, 900), st.randoms())
@settings(max_examples=40, deadline=None)
def test_a_tree_of_merges_gives_what_one_merge_gives(kinds: list[Outcome | None], shards: int, random) -> None:
    counts = [counted(index, kinds[index % len(kinds)]) for index in range(shards)]
    flat = merge_counts(counts)
    assert merged_in_tree(counts) == flat
    random.shuffle(counts)
    assert merged_in_tree(counts) == flat


@given(st.lists(outcomes, max_size=12))
def test_counts_add_up(kinds: list[Outcome | None]) -> None:
    total = merge_counts([counted(index, kind) for index, kind in enumerate(kinds)])
    done = [kind for kind in kinds if kind is not None]
    bad: Counter[str] = Counter()
    for _, reasons, _, _ in done:
        bad.update(reasons)
    assert total.shards == len(kinds)
    assert total.scored == sum(kind[0] for kind in done)
    assert total.bad == bad
    assert total.read == total.scored + sum(total.bad.values())
    assert total.expected == sum(kind[2] or 0 for kind in done)
    assert total.announced == sum(kind[2] is not None for kind in done)
    assert len(total.missing) + len(total.parts) == total.shards
    assert list(total.parts) == sorted(total.parts)


def test_a_shard_without_a_part_is_named_and_counts_nothing() -> None:
    failed = counted(7, None)
    assert failed == Counts(shards=1, missing=["/pool/000007.tar"])
    assert merge_counts([counted(8, None), failed]).missing == ["/pool/000007.tar", "/pool/000008.tar"]


def test_a_shard_that_brings_less_than_announced_is_short_and_one_that_brings_more_is_not() -> None:
    short, damaged, more = counted(0, (8, {"no_image": 1}, 12, False)), counted(1, (3, {}, 3, True)), (5, {}, 4, False)
    total = merge_counts([short, damaged, counted(2, more)])
    assert total.short == {"/pool/000000.tar": 3}
    assert total.damaged == {"/pool/000001.tar": "cut off"}


def test_nothing_merged_is_nothing() -> None:
    assert merge_counts([]) == Counts()


def test_counts_survive_their_file() -> None:
    counts = merge_counts([counted(0, (8, {"no_image": 1}, 12, True)), counted(1, None)])
    assert Counts.model_validate_json(counts.model_dump_json()) == counts
