"""The trials of an evaluation: the proxies to train, and the content keys of their outcomes.

A trial's key is a hash of all that decides its outcome, so jobs that share a plan share their equal trials.
"""

import hashlib

from coreset.schemas.evaluation import Cut
from coreset.schemas.plan import PlannedModel, PlannedShard
from coreset.spec.base import FrozenModel
from coreset.spec.equal_rules import canonical
from coreset.spec.evaluation import FULL, rule_of_seed
from coreset.spec.pool import CaptionField
from coreset.spec.proxies import PROXY_VERSION
from coreset.spec.selection import Rule, SelectSpec


class ProxyPlan(FrozenModel):
    """Model and test shards of an evaluation, as they were when the job was planned.

    Attributes:
        model: the proxies' architecture.
        test: shards of the held-out samples.
        caption_field: caption field of the test shards.
    """

    model: PlannedModel
    test: list[PlannedShard]
    caption_field: CaptionField


class Setup(FrozenModel):
    """Conditions of training and testing that all proxies of an evaluation share.

    Attributes:
        left_out: shards of the plan that have no part; proxies are not trained on them.
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
        """Content key of the proxies' data: equal keys share a packed pool."""
        return _hash(f"{self.plan_id}/{self.left_out}/{self.world.model_dump_json()}")


class Trial(FrozenModel):
    """One proxy: the selection that it is trained on, None for the whole pool, and its seed."""

    select: SelectSpec | None
    seed: int

    def key(self, setup: Setup) -> str:
        """Return the trial's content key, the same for rules that select the same samples.

        The recipe's name is no part of it: its fields are filled in.
        """
        same = self.model_copy(update={"select": self.select and canonical(self.select)})
        return _hash(f"{setup.model_dump_json()}/{same.model_dump_json(exclude={'select': {'recipe'}})}")


class Trials(FrozenModel):
    """All proxies of one job's evaluation.

    Attributes:
        rules: the rules to compare, by name.
        cuts: each rule at each size, the whole pool first.
        pool_samples: number of samples with scores, each uid once.
        seeds: number of proxies per cut.
    """

    setup: Setup
    rules: dict[str, Rule]
    cuts: list[Cut]
    pool_samples: int
    seeds: int

    def trial(self, cut: Cut, seed: int) -> Trial:
        """Return the trial of a cut and a seed."""
        if cut.selection == FULL:
            return Trial(select=None, seed=seed)
        return Trial(select=rule_of_seed(self.rules[cut.selection], seed).with_k(cut.k), seed=seed)

    @property
    def all(self) -> list[Trial]:
        """The distinct trials, all selections of a seed before the next seed's."""
        every = (self.trial(cut, seed) for seed in range(self.seeds) for cut in self.cuts)
        return list({trial.key(self.setup): trial for trial in every}.values())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
