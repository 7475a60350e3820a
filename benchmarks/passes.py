"""Forward passes per sample of a job, by its scores, its target and its horizon: `python -m benchmarks.passes`.

Counted by the function behind `coreset check`; the tests compare it with what preparing really makes.
"""

from coreset.schemas.plan import Plan, PlannedCheckpoint, PlannedModel, PlannedShard, Sourced
from coreset.spec.job import ValidationTarget
from coreset.spec.pool import PoolSpec
from coreset.spec.scores import DEFAULT_SCORES, RUN_FREE_SCORES, Score
from coreset_workers.estimates.time import forwards

CHECKPOINTS = 5
ALL = tuple(score for score in Score if score is not Score.SELF_INFLUENCE)
VALIDATION = ValidationTarget(pool=PoolSpec(shards=["v.tar"]))


def plan_of(scores: tuple[Score, ...], target: str | ValidationTarget, horizon: int | None = None) -> Plan:
    """Return a plan of CHECKPOINTS checkpoints with steps 1, 2, ...; none if no score needs the run."""
    number, model = Sourced(value=1, source="spec"), PlannedModel(name="m", config={}, source="spec")
    run_free = set(scores) <= set(RUN_FREE_SCORES)
    checkpoints = [
        PlannedCheckpoint(
            index=index,
            uri=f"{index}.pt",
            size=1,
            sha256="",
            epoch=None,
            step=Sourced(value=index + 1, source="spec"),
            lr=number,
            lr_sum=number,
            optimizer=None,
        )
        for index in range(0 if run_free else CHECKPOINTS)
    ]
    return Plan(
        shards=[PlannedShard(index=0, uri="0.tar", size=1)],
        caption_field=None,
        checkpoints=checkpoints,
        model=model,
        clip_model=model if run_free else None,
        clip_pretrained="w.pt" if run_free else None,
        target=target,
        reference_size=256,
        reference_seed=0,
        n_samples=number,
        scores=list(scores),
        seed=0,
        horizon=horizon,
    )


def main() -> None:
    rows = {
        "all but self_influence (the default before)": ALL,
        "the default: " + ", ".join(DEFAULT_SCORES): DEFAULT_SCORES,
        "the default and loss": (*DEFAULT_SCORES, Score.LOSS),
        "without a run: " + ", ".join(RUN_FREE_SCORES): RUN_FREE_SCORES,
    }
    print("| scores | V = training | validation pool, horizon at the last of 5 | at the second |\n|---|---|---|---|")
    for name, scores in rows.items():
        plans = [plan_of(scores, "training"), plan_of(scores, VALIDATION), plan_of(scores, VALIDATION, 2)]
        if not plans[0].checkpoints:
            plans = plans[:1] * 3
        print(f"| {name} | {' | '.join(str(forwards(plan)) for plan in plans)} |")


if __name__ == "__main__":
    main()
