"""Planning of the trials of a job's evaluation."""

from coreset.schemas.evaluation import Cut
from coreset.schemas.manifest import Selection
from coreset.schemas.plan import Plan
from coreset.schemas.trials import ProxyPlan, Setup, Trials
from coreset.spec.evaluation import FULL, EvaluateSpec
from coreset.spec.proxies import BATCH_SIZE, PASSES


def plan_trials(
    spec: EvaluateSpec, plan: Plan, world: ProxyPlan, selection: Selection, pool_samples: int, left_out: list[int]
) -> Trials:
    """Return the trials of a job that has its scores and its selection."""
    asked = spec.rules(selection.spec.rule, plan.scores)
    rules = {
        name: rule.with_recipe(plan.columns.clusters) for name, rule in asked.items()
    }  # equal ones are then seen as equal
    fractions = spec.fractions or [min(1.0, selection.k / pool_samples)]
    sizes = {fraction: max(1, round(fraction * pool_samples)) for fraction in fractions}
    cuts = [Cut(selection=name, fraction=fraction, k=k) for name in rules for fraction, k in sizes.items()]
    return Trials(
        setup=Setup(
            plan_id=plan.id,
            left_out=left_out,
            world=world,
            samples_seen=spec.samples_seen or PASSES * pool_samples,
            batch_size=spec.batch_size or min(BATCH_SIZE, *sizes.values(), pool_samples),
            lr=spec.lr,
        ),
        rules=rules,
        cuts=[Cut(selection=FULL, fraction=1.0, k=pool_samples), *cuts],
        pool_samples=pool_samples,
        seeds=spec.seeds,
    )
