"""Random pools, with ties, gaps and repeated uids, and random selections from them."""

from typing import Any

from hypothesis import strategies as st

from coreset.spec.selection import SelectSpec
from tests.coreset.selections import Row

values = st.integers(-8, 8).map(lambda n: n / 8)
rows = st.fixed_dictionaries(
    {
        "uid": st.integers(0, 40).map(lambda n: f"{n:032x}"),
        "clip_score": values,
        "random": values,
        "caption": st.sampled_from(
            ["red", "a red kite", "ein  Haus", "zwei\nrote\u00a0Häuser am Meer", "été", "x" * 90]
        ),
        "image_width": st.sampled_from([32, 200, 640]),
        "image_height": st.sampled_from([24, 200, 480]),
        "metadata_lang": st.sampled_from(["en", "de", "1", "2.5", "nan", "true", "it's", None]),
        "cluster": st.integers(0, 3),
    }
)
pools = st.tuples(*(st.lists(rows, max_size=30) for _ in range(2)))


def bounds(numbers: st.SearchStrategy[float], low: str = "min", high: str = "max") -> st.SearchStrategy[Row]:
    pairs = st.tuples(numbers, numbers).map(sorted)
    return st.one_of(
        numbers.map(lambda n: {low: n}),
        numbers.map(lambda n: {high: n}),
        pairs.map(lambda pair: {low: pair[0], high: pair[1]}),
    )


def labels(found: st.SearchStrategy[Any]) -> st.SearchStrategy[Row]:
    some = st.lists(found, min_size=1, max_size=3)
    return st.one_of(some.map(lambda each: {"any_of": each}), some.map(lambda each: {"none_of": each}))


shares = st.integers(0, 20).map(lambda n: n / 20)
by_column: dict[str, st.SearchStrategy[Row]] = {
    "clip_score": st.one_of(bounds(values), bounds(shares, "min_rank", "max_rank")),
    "random": bounds(shares, "min_rank", "max_rank"),
    "caption_length": bounds(st.sampled_from([3, 5, 10, 80])),
    "caption_words": bounds(st.sampled_from([1, 2, 3, 4])),
    "image_width": bounds(st.sampled_from([32, 100, 640])),
    "image_short_side": bounds(st.sampled_from([24, 100, 200])),
    "aspect_ratio": bounds(st.sampled_from([1.0, 1.5, 3.2])),
    "cluster": labels(st.integers(0, 4)),
    "shard": labels(st.sampled_from(["0.tar", "1.tar"])),
    "metadata_lang": st.one_of(labels(st.sampled_from(["en", "1", 1, "it's", "no"])), bounds(st.just(1.5))),
}
filters = st.lists(st.sampled_from(list(by_column)), min_size=1, max_size=2, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: by_column[name] for name in names})
)
weights = st.sampled_from([{"clip_score": 1}, {"clip_score": 1, "random": 1}, {"clip_score": 2, "random": -0.5},
                           {"clip_score": -1}, {"random": -3, "clip_score": -1}])  # fmt: skip
group = st.sampled_from(["cluster", "shard", "caption", "metadata_lang"])
quotas = st.one_of(
    st.builds(lambda field, n: {"field": field, "max": n}, group, st.integers(1, 9)),
    st.builds(lambda field, n: {"field": field, "max_share": n / 10}, group, st.integers(1, 10)),
    st.builds(lambda field, how: {"field": field, "balance": how}, group, st.sampled_from(["equal", "proportional"])),
    st.just({"field": "cluster", "balance": "target"}),
    st.tuples(st.integers(0, 2), st.integers(0, 2)).map(
        lambda n: {"field": "cluster", "shares": {"0": n[0] / 4, "2": n[1] / 4}}
    ),
)
sizes = st.one_of(
    st.integers(1, 12).map(lambda k: {"k": k}),
    st.integers(1, 20).map(lambda n: {"fraction": n / 20}),
    values.map(lambda value: {"threshold": value}),
)


@st.composite
def specs(draw: st.DrawFn) -> SelectSpec:
    by = draw(weights)
    body = draw(sizes) | {"by": by, "winsorise": draw(st.sampled_from([0, 0, 0.1, 0.3]))}
    if draw(st.integers(0, 3)):
        body |= {"filters": draw(filters)}
    if draw(st.integers(0, 2)):
        quota = draw(quotas)
        body |= {"quota": quota} if "threshold" not in body or "max" in quota else {}
    if "threshold" not in body and not draw(st.integers(0, 2)):
        body |= {"distinct": draw(group)}
    how = draw(st.sampled_from(["mix", "mix", "intersection", "union"]))
    scale = draw(st.sampled_from(["rank", "raw", "zscore"])) if how == "mix" else "rank"
    if scale == "rank" and draw(st.booleans()):
        body |= {"within": {score: draw(group) for score in by if draw(st.booleans())}}
    return SelectSpec.model_validate({**body, "combine": how, "scale": scale})
