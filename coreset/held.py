"""Whether a plan's parts hold what a selection asks for."""

from coreset.errors import InvalidSpec
from coreset.plan import Plan
from coreset.select_spec import SelectSpec


def require_held(plan: Plan, spec: SelectSpec) -> None:
    """Raise InvalidSpec if the plan's parts do not hold what the spec asks for; says what they do hold."""
    missing = [score.value for score in spec.needs if score not in plan.scores]
    if missing:
        computed = ", ".join(plan.scores)
        raise InvalidSpec(f"the job has not computed {', '.join(missing)}; it has {computed}", field="by")
    lacking = plan.held.lacking(spec.filters, spec.quota.field if spec.quota else None)
    if lacking is None:
        return
    way_out = "" if plan.held.sizes else ". This job was scored before parts held more: post it again"
    raise InvalidSpec(f"{lacking}{way_out}", field="filters")
