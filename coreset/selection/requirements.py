"""Whether a plan's parts hold what a selection asks for."""

from coreset.errors import InvalidSpec
from coreset.schemas.plan import Plan
from coreset.spec.selection import SelectSpec


def filled_from(plan: Plan, spec: SelectSpec) -> SelectSpec:
    """Return the spec with what the recipe adds over the plan's parts. Raises InvalidSpec as require_held does."""
    filled = spec.filled(plan.held.clusters)
    require_held(plan, filled)
    return filled


def require_held(plan: Plan, spec: SelectSpec) -> None:
    """Raise InvalidSpec if the plan's parts do not hold what the spec asks for; says what they do hold."""
    missing = [score for score in spec.needs if score not in plan.scores]
    if missing:
        field = "by" if missing[0] in spec.by else "filters"
        told = f"the job has not computed {', '.join(missing)}; it has {', '.join(plan.scores)}"
        raise InvalidSpec(told, field=field)
    way_out = "" if plan.held.sizes else ". This job was scored before parts held more: post it again"
    for field, lacking in (
        ("filters", plan.held.lacking(spec.filters, [])),
        ("within", plan.held.lacking([], spec.rank_groups.values())),
        ("distinct", plan.held.lacking([], [spec.distinct] if spec.distinct else [])),
        ("quota", plan.held.lacking([], [spec.quota.field] if spec.quota else [])),
    ):
        if lacking:
            raise InvalidSpec(f"{lacking}{way_out}", field=field)
