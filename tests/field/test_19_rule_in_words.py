"""Issue 18, point 19: what is shown is the rule that selected, and `by` alone means `by` alone."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from coreset.browsing.score_table import SELECTION, ScoreTable
from coreset.browsing.summary import summarize
from coreset.cli.tables import show_selection
from coreset.schemas.plan import PlannedCheckpoint, Sourced
from coreset.selection.select import select, selection_id
from coreset.spec.rule_words import describe_rule
from coreset.spec.scores import Score
from coreset.spec.selection import SelectSpec
from coreset.storage.storage import Storage
from tests.coreset.selections import plan_of, write_parts

SHELL_IN_WORDS = (
    "each cluster has the share that it has in the target; one sample of each caption before a second of any"
)
RECIPE_IN_WORDS = f"recipe clip_score_target_balanced: CLIP score, highest first; {SHELL_IN_WORDS}"
MIXED_IN_WORDS = (
    "recipe target_balanced: mean of the ranks of Diff-In and CLIP score; CLIP score ranked within each cluster; "
    + SHELL_IN_WORDS
)
BOTH = {"diffin": 1, "clip_score": 1}


def spec_of(body: dict[str, Any]) -> SelectSpec:
    return SelectSpec.model_validate({"k": 3, **body})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, RECIPE_IN_WORDS),
        ({"recipe": "clip_score_target_balanced"}, RECIPE_IN_WORDS),
        ({"recipe": "target_balanced"}, MIXED_IN_WORDS),
        ({"by": BOTH}, "mean of the ranks of Diff-In and CLIP score"),
        ({"within": {}}, "CLIP score, highest first"),
        ({"by": {"loss": -1}}, "Loss, lowest first"),
        (
            {"by": {"diffin": 2, "loss": -1}, "within": {"loss": "shard"}},
            "weighted mean of the ranks of Diff-In (weight 2) and Loss (weight 1, reversed); Loss ranked "
            "within each shard",
        ),
        ({"by": BOTH, "combine": "intersection"}, "in the top by every one of Diff-In and CLIP score"),
        (
            {"by": BOTH, "scale": "zscore", "winsorise": 0.01, "quota": {"field": "shard", "max_share": 0.05}},
            "mean of the standardised scores of Diff-In and CLIP score; the extreme 1 % at each end of a score "
            "clipped; at most 5 % of the selection from each shard",
        ),
        (
            {
                "by": "clip_score",
                "filters": {"clip_score": {"min": 0.2, "max_rank": 0.99}, "shard": {"none_of": ["a.tar"]}},
                "sampling": {"temperature": 0.1, "max_repeats": 5},
            },
            "CLIP score, highest first; only samples with clip_score at least 0.2 and a rank of at most 0.99; only "
            "samples with shard none of a.tar; drawn at random, temperature 0.1, each at most 5 times, seed 0",
        ),
    ],
)
def test_a_rule_is_described_in_full(body: dict[str, Any], words: str) -> None:
    assert describe_rule(spec_of(body)) == words
    assert describe_rule(spec_of(body).with_recipe(clusters=True)) == words


def test_by_alone_adds_nothing_and_keeps_the_id_of_the_same_rule() -> None:
    plan = plan_of(1, scores=[Score.DIFFIN, Score.CLIP_SCORE])
    mixed = {"recipe": "target_balanced"}
    alone, all_samples, recipe = (
        spec_of(body).with_recipe(clusters=True) for body in ({"by": BOTH}, {"by": BOTH, "within": {}}, mixed)
    )
    assert (alone.within, alone.quota, alone.distinct, alone.recipe) == ({}, None, None, None)
    assert selection_id(plan, alone) == selection_id(plan, all_samples)
    stored = recipe.model_dump(exclude={"recipe"})  # as the version before wrote the recipe's selections
    assert selection_id(plan, recipe) == selection_id(plan, SelectSpec.model_validate(stored))


def test_the_recipe_is_visible_in_the_spec_and_survives_storing() -> None:
    spec = spec_of({})
    assert spec.recipe == "clip_score_target_balanced"
    assert SelectSpec.model_validate_json(spec.model_dump_json()) == spec
    mixed = spec_of({"recipe": "target_balanced"})
    assert mixed.by == BOTH
    assert SelectSpec.model_validate_json(mixed.model_dump_json()) == mixed
    assert spec_of({"by": BOTH, "recipe": None}).recipe is None
    old = mixed.model_dump(exclude={"recipe"})  # a job stored by the version before: `within` is null
    assert SelectSpec.model_validate(old).recipe == "target_balanced"


@pytest.mark.parametrize(
    "more", [{"by": "loss"}, {"scale": "raw"}, {"combine": "union"}, {"within": {"diffin": "shard"}}]
)
def test_a_recipe_beside_fields_that_contradict_it_is_rejected(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="leave out `by`, `combine`, `scale` and `within`, or `recipe`"):
        spec_of({"recipe": "target_balanced", **more})


def test_command_line_and_page_show_the_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    number = Sourced(value=1, source="spec")
    checkpoint = PlannedCheckpoint(
        index=0, uri="/c.pt", size=1, sha256="", epoch=1, step=number, lr=number, lr_sum=number, optimizer=None
    )
    storage = Storage(str(tmp_path))
    plan = plan_of(1, scores=[Score.DIFFIN, Score.CLIP_SCORE], checkpoints=[checkpoint])
    rows = [
        {"uid": f"{i:032x}", "caption": f"scene {i}", "diffin": i / 8, "clip_score": 1 - i / 8, "cluster": i % 2}
        | {"image_width": 32, "image_height": 32, "metadata_lang": None, "diffin_by_checkpoint": [i / 8]}
        for i in range(8)
    ]
    write_parts(storage, plan, [rows])
    selection = select(storage, plan, "job", spec_of({}))
    show_selection(selection)
    assert RECIPE_IN_WORDS in capsys.readouterr().out
    with ScoreTable(storage, plan, selection) as table:
        summary = summarize(table)
    assert summary.rule == RECIPE_IN_WORDS
    assert [ranking.label for ranking in summary.rankings if ranking.name == SELECTION] == [
        "clip_score_target_balanced"
    ]
