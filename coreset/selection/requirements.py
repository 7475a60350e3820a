"""Validation of a selection against the columns of a plan's parts."""

from coreset.errors import InvalidSpec
from coreset.schemas.plan import Plan
from coreset.spec.selection import SelectSpec


def resolve_spec(plan: Plan, spec: SelectSpec) -> SelectSpec:
    """Return the spec with its defaults for the plan's parts. Raises InvalidSpec as require_columns does."""
    resolved = spec.with_scores(plan.scores).with_recipe(plan.columns.clusters)
    require_columns(plan, resolved)
    return resolved


def require_columns(plan: Plan, spec: SelectSpec) -> None:
    """Raise InvalidSpec, with the columns that exist, if the plan's parts lack a column that the spec names."""
    missing = [score for score in spec.required_scores if score not in plan.scores]
    if missing:
        field = "by" if missing[0] in spec.by else "filters"
        asked = f", which the recipe {spec.recipe} needs" if spec.recipe and field == "by" else ""
        message = f"the job has not computed {', '.join(missing)}{asked}; it has {', '.join(plan.scores)}"
        raise InvalidSpec(message, field=field)
    way_out = (
        ""
        if plan.columns.sizes
        else ". This job's parts are of an older version with fewer columns: post the job again"
    )
    for field, sentence in (
        ("filters", plan.columns.describe_missing(spec.filters, [])),
        ("within", plan.columns.describe_missing([], spec.rank_groups.values())),
        ("distinct", plan.columns.describe_missing([], [spec.distinct] if spec.distinct else [])),
        ("quota", plan.columns.describe_missing([], [spec.quota.field] if spec.quota else [])),
    ):
        if sentence:
            raise InvalidSpec(f"{sentence}{way_out}", field=field)
