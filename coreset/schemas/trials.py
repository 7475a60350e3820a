"""The trials of an evaluation: which proxies are trained, on what, and under which names their outcomes are kept.

A trial is named by all that decides its outcome, and kept under its plan: equal questions of any job are answered once.
"""

import hashlib

from coreset.errors import NotFound
from coreset.schemas.evaluation import Cut, TrialOutcome
from coreset.schemas.manifest import Selection
from coreset.schemas.plan import Plan, PlannedModel, PlannedShard
from coreset.spec.base import Strict
from coreset.spec.evaluation import FULL, EvaluateSpec, of_seed
from coreset.spec.proxies import BATCH_SIZE, PASSES, PROXY_VERSION
from coreset.spec.selection import Rule, SelectSpec
from coreset.storage.storage import Storage


class ProxyPlan(Strict):
    """What an evaluation needs of the world, as it was when the job was planned.

    Attributes:
        model: of the proxies.
        test: shards of the held-out samples.
        caption_field: theirs.
    """

    model: PlannedModel
    test: list[PlannedShard]
    caption_field: str | None


class Setup(Strict):
    """How every proxy of an evaluation is trained and tested.

    Attributes:
        left_out: shards of the plan that have no part; proxies do not see them either.
    """

    version: int = PROXY_VERSION
    plan_id: str
    left_out: list[int]
    world: ProxyPlan
    samples_seen: int
    batch_size: int
    lr: float

    @property
    def data_key(self) -> str:
        """Names what its proxies see: equal ones share a packed pool."""
        return _hash(f"{self.plan_id}/{self.left_out}/{self.world.model_dump_json()}")


class Trial(Strict):
    """One proxy: what it is trained on, None being the whole pool, and its seed."""

    select: SelectSpec | None
    seed: int

    def key(self, setup: Setup) -> str:
        """Return the trial's content key."""
        return _hash(f"{setup.model_dump_json()}/{self.model_dump_json()}")


class Trials(Strict):
    """All proxies of one job's evaluation.

    Attributes:
        rules: what is compared, by name.
        cuts: the sizes at which each is, the whole pool first.
        pool_samples: samples with scores, each uid once.
        seeds: how many.
    """

    setup: Setup
    rules: dict[str, Rule]
    cuts: list[Cut]
    pool_samples: int
    seeds: int

    def trial(self, cut: Cut, seed: int) -> Trial:
        if cut.selection == FULL:
            return Trial(select=None, seed=seed)
        return Trial(select=of_seed(self.rules[cut.selection], seed).of_size(cut.k), seed=seed)

    @property
    def all(self) -> list[Trial]:
        """The distinct trials, all selections of a seed before the next seed's."""
        every = (self.trial(cut, seed) for seed in range(self.seeds) for cut in self.cuts)
        return list({trial.key(self.setup): trial for trial in every}.values())


def plan_trials(
    spec: EvaluateSpec, plan: Plan, world: ProxyPlan, selection: Selection, pool_samples: int, left_out: list[int]
) -> Trials:
    """Return the trials of a job that has its scores and its selection."""
    asked = spec.rules(selection.spec.rule, plan.scores)
    rules = {name: rule.filled(plan.held.clusters) for name, rule in asked.items()}  # equal ones are then seen as equal
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


def outcome_path(setup: Setup, trial: Trial) -> str:
    return f"plans/{setup.plan_id}/trials/{trial.key(setup)}.json"


def find_outcome(storage: Storage, setup: Setup, trial: Trial) -> TrialOutcome | None:
    try:
        return TrialOutcome.model_validate_json(storage.read(outcome_path(setup, trial)))
    except NotFound:
        return None


def save_outcome(storage: Storage, setup: Setup, trial: Trial, outcome: TrialOutcome) -> None:
    storage.write(outcome_path(setup, trial), outcome.model_dump_json(indent=2).encode())


def note_failure(storage: Storage, job_id: str, index: int, message: str) -> None:
    """Say why a trial of the job has no outcome; another job asks the same question anew."""
    storage.write(f"jobs/{job_id}/trials/{index:05d}.txt", message.encode())


def find_failure(storage: Storage, job_id: str, index: int) -> str:
    try:
        return storage.read(f"jobs/{job_id}/trials/{index:05d}.txt").decode()
    except NotFound:
        return "it left no outcome; the workers' logs say why"


def save_trials(storage: Storage, job_id: str, trials: Trials) -> None:
    storage.write(f"jobs/{job_id}/trials.json", trials.model_dump_json(indent=2).encode())


def load_trials(storage: Storage, job_id: str) -> Trials:
    return Trials.model_validate_json(storage.read(f"jobs/{job_id}/trials.json"))


def save_world(storage: Storage, job_id: str, world: ProxyPlan) -> None:
    storage.write(f"jobs/{job_id}/proxies.json", world.model_dump_json(indent=2).encode())


def load_world(storage: Storage, job_id: str) -> ProxyPlan:
    return ProxyPlan.model_validate_json(storage.read(f"jobs/{job_id}/proxies.json"))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
