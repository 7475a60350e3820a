"""The ranking of a selection is the order in which its rule takes samples."""

import random
from pathlib import Path

import pytest

from coreset.browsing.score_table import SELECTION, ScoreTable
from coreset.selection.select import select
from coreset.spec.selection import SelectSpec
from coreset.storage.storage import Storage
from coreset.storage.target_clusters import save_target_clusters
from coreset.uids import read_uids
from tests.coreset.selections import Row, plan_of, write_parts

TARGET = {"quota": {"field": "cluster", "balance": "target"}}
DISTINCT = {"distinct": "caption"}


def a_row(number: int, draw: random.Random) -> Row:
    cluster = draw.choice([0, 0, 0, 1, 1, 2])
    scores = {"clip_score": draw.randint(0, 40) / 64 + cluster / 8, "random": draw.random()}
    caption = f"caption {draw.randint(0, 200)}"
    sizes = {"image_width": 32, "image_height": 32, "metadata_lang": None}
    return {"uid": f"{number:032x}", "caption": caption, "cluster": cluster, **scores, **sizes}


@pytest.mark.parametrize(
    "rule",
    [
        {},
        TARGET,
        DISTINCT,
        TARGET | DISTINCT,
        DISTINCT | {"quota": {"field": "cluster", "balance": "equal"}},
        {"within": {"clip_score": "cluster"}, "filters": {"random": {"min": 0.2}}} | TARGET | DISTINCT,
    ],
)
def test_the_best_k_of_a_selections_ranking_are_what_it_keeps_at_k(tmp_path: Path, rule: Row) -> None:
    storage, plan, draw = Storage(str(tmp_path)), plan_of(2), random.Random(1)
    rows = [a_row(number, draw) for number in range(300)]
    write_parts(storage, plan, [rows[:150], rows[140:]])  # ten of them twice
    save_target_clusters(storage, plan, [2, 40, 9])

    def asked(k: int) -> SelectSpec:
        return SelectSpec.model_validate({"k": k, "by": "clip_score", **rule})

    with ScoreTable(storage, plan, select(storage, plan, "job", asked(50))) as look:
        for k in (1, 20, 50, 130, 220):
            subset = select(storage, plan, "job", asked(k)).files["subset.npy"]
            ranked = look.query(f"SELECT uid FROM score_table WHERE place_{SELECTION} <= {k}")
            assert {uid for (uid,) in ranked} == set(read_uids(Path(subset.uri)))
