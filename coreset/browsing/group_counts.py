"""Counting of a job's scored and kept samples by group."""

from coreset.errors import InvalidInput
from coreset.schemas.group_counts import MAX_GROUPS, GroupCount, GroupCounts
from coreset.schemas.manifest import Selection
from coreset.schemas.plan import Plan
from coreset.schemas.sample import MAX_CAPTION
from coreset.selection.ranking import open_samples
from coreset.spec.columns import CAPTION
from coreset.spec.scores import Score
from coreset.storage.layout import JobFolder
from coreset.storage.storage import Storage


def group_counts(storage: Storage, plan: Plan, selection: Selection, field: str) -> GroupCounts:
    """Return the groups of a field with their numbers of scored and of kept samples, each uid counted once.

    Raises:
        InvalidInput: the field does not group this plan's samples.
    """
    fields = [column for column in plan.columns.groups if column != CAPTION]
    if field not in fields:
        raise InvalidInput(f"unknown field {field!r}; expected one of {', '.join(fields)}", field="field")
    score = (Score.CLIP_SCORE if Score.CLIP_SCORE in plan.scores else plan.scores[0]).value
    with open_samples(storage, plan) as db:
        db.register("subset", storage.parquet([JobFolder(selection.job_id).selection(selection.id).subset]))
        found = db.execute(f"""
            WITH single AS (
                SELECT uid, any_value("{field}")::VARCHAR AS value, max({score}) AS score,
                    left(arg_max(caption, {score}), {MAX_CAPTION}) AS caption
                FROM samples GROUP BY uid
            ), chosen AS (SELECT DISTINCT uid FROM subset),
            groups AS (
                SELECT value, count(*) AS samples, count(chosen.uid) AS kept, arg_max(caption, score) AS example
                FROM single LEFT JOIN chosen USING (uid) GROUP BY value
            )
            SELECT value, samples, kept, example, count(*) OVER () FROM groups
            ORDER BY samples DESC, value LIMIT {MAX_GROUPS}
        """).fetchall()
    return GroupCounts(
        field=field,
        fields=fields,
        total=found[0][-1] if found else 0,
        groups=[
            GroupCount(value=value, samples=samples, kept=kept, example=example)
            for value, samples, kept, example, _ in found
        ],
    )
