"""Files of a plan, made again where a later stage finds them damaged: a prepared file, a part, a part's summary.

Files are written over, not deleted first: another job of the plan that selects meanwhile finds a damaged file, which is
an error, where a missing part would be a smaller pool.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from coreset.errors import DamagedFile, NotFound
from coreset.schemas.manifest import ShardSummary
from coreset.schemas.plan import Plan
from coreset.storage.layout import PlanFolder
from coreset.storage.plan_files import load_summary, part_damage
from coreset_workers.influence.prepared_files import discard_preparation
from coreset_workers.resources import Resources
from coreset_workers.stages.prepare import prepare_plan
from coreset_workers.stages.score import score_shard

log = structlog.get_logger("coreset_workers.repair")

T = TypeVar("T")


@dataclass(frozen=True)
class PlanRepair:
    """Scores shards and prepares a plan again. The same bits come out, on the same kind of device.

    Args:
        thumbnails: also write the thumbnails of a scored shard.
        advance: called with the shard and the fraction of it that is scored; may raise to end the work.

    Attributes:
        repaired: why each repaired file was made again, by its path below the storage's root.
        scored_again: shards whose part was made again.
    """

    plan: Plan
    resources: Resources
    thumbnails: bool
    advance: Callable[[int, float], object]
    repaired: dict[str, str] = field(default_factory=dict[str, str])
    scored_again: set[int] = field(default_factory=set[int])

    def score(self, shard: int) -> ShardSummary:
        """Score a shard; if a prepared file is damaged, prepare the plan again first.

        Raises:
            ShardUnreadable: the shard cannot be read.
            DamagedFile: a prepared file is damaged after it was made again.
        """
        try:
            return self._score(shard)
        except DamagedFile:  # of those that preparing wrote
            self._prepare(shard)
            return self._score(shard)

    def summary(self, shard: int) -> ShardSummary | None:
        """Return the summary of a shard, None if it has no part; a damaged one is made again with its part.

        Raises:
            ShardUnreadable: the shard cannot be read.
            DamagedFile: the summary is damaged after it was made again.
        """
        try:
            return load_summary(self.resources.storage, self.plan.id, shard)
        except NotFound:
            return None
        except DamagedFile as error:
            if shard in self.scored_again:
                raise
            self._note(error)
            self.scored_again.add(shard)
            return self.score(shard)

    def complete(self, stage: Callable[[], T], shards: Callable[[], Iterable[int]]) -> T:
        """Return what the stage returns; if it finds a damaged file of the plan, make it again and run it again.

        Args:
            shards: returns the shards that have a part.

        Raises:
            DamagedFile: the file is none of the plan's, or is damaged after it was made again once.
            CoresetError: a file cannot be made again.
        """
        while True:
            try:
                return stage()
            except DamagedFile as error:
                if not self._repair(error, shards()):
                    raise

    def _repair(self, error: DamagedFile, shards: Iterable[int]) -> bool:
        """Make the damaged file again, a part with all other damaged parts; return whether to try the stage again."""
        folder, name = PlanFolder(self.plan.id), str(error.data["name"])
        in_parts, prepared = name.startswith(f"{folder.parts}/"), name.startswith(folder.prepared(""))
        if name in self.repaired or not (in_parts or prepared):
            return False
        self._note(error)
        if prepared:
            self._prepare(0)
            return True
        for shard, damage in part_damage(self.resources.storage, self.plan.id, shards).items():
            if shard not in self.scored_again:
                self._note(damage)
                self.scored_again.add(shard)
                self.score(shard)
        return True

    def _note(self, error: DamagedFile) -> None:
        name, why = str(error.data["name"]), str(error.data["why"])
        log.warning("a damaged file is made again", name=name, why=why)
        self.repaired[name] = why

    def _score(self, shard: int) -> ShardSummary:
        scorer, loader = self.resources.scorer(self.plan), self.resources.loader(self.plan)

        def advance(fraction: float) -> None:
            self.advance(shard, fraction)

        return score_shard(scorer, loader, self.plan.shards[shard], advance, self.thumbnails)

    def _prepare(self, shard: int) -> None:
        """Prepare the plan again, while a shard of it is scored."""
        self.resources.drop_scorer()
        discard_preparation(self.resources.storage, self.plan)

        def advance(stage: str, fraction: float) -> None:
            self.advance(shard, 0.0)

        prepare_plan(
            self.plan, self.resources.storage, self.resources.loader(self.plan), self.resources.device, advance
        )
