"""Score table of a job: its samples with every score and their place in every ranking.

If the pool has more than MAX_ROWS samples the table is a uniform draw of it, by a hash of the uid. Charts and overlaps
are then estimates, and places are scaled to the whole.
"""

import threading
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, cast

import numpy.typing as npt

from coreset.browsing.sample_views import SampleViews
from coreset.errors import InvalidSpec
from coreset.schemas.manifest import Selection
from coreset.schemas.plan import Plan
from coreset.schemas.sample import MAX_CAPTION, SampleView
from coreset.selection.candidates import create_scored, create_valued
from coreset.selection.quota import VALUE_ORDER, create_allowed
from coreset.selection.ranking import open_samples
from coreset.spec.scores import ESTIMATORS
from coreset.storage.layout import JobFolder
from coreset.storage.storage import Storage
from coreset.storage.target_clusters import load_target_clusters

MAX_ROWS = 1_000_000
"""Largest number of rows: some 300 MB."""

SELECTION = "selection"
"""Name of the ranking by the job's own selection, beside those by each score."""


class ScoreTable:
    """The table `score_table` of a job with a selection. Close it, or use it in a `with`. Safe for threads.

    Columns: uid, shard, key, row, caption, one column per score, `<score>_by_checkpoint`, kept, and for each ranking
    `place_<ranking>`, from 1, the best. Each uid has one row, as in the selection; samples that its filters exclude
    have the last places in its own ranking.

    Attributes:
        rankings: the plan's scores, then SELECTION.
        rows: number of rows.
        share: share of the pool's samples that are in the table.
    """

    def __init__(self, storage: Storage, plan: Plan, selection: Selection) -> None:
        self.storage, self.plan, self.selection = storage, plan, selection
        self.rankings = [*(score.value for score in plan.scores), SELECTION]
        self._sample_views = SampleViews(storage, plan)
        self._lock = threading.Lock()
        self._stack = ExitStack()
        try:
            self._db = self._stack.enter_context(open_samples(storage, plan))
            self._make()
        except BaseException:
            self._stack.close()
            raise
        self.rows = int(self.query("SELECT count(*) FROM score_table")[0][0])

    def _make(self) -> None:
        self._draw()
        self._turns()
        kept = self.storage.parquet([JobFolder(self.selection.job_id).selection(self.selection.id).subset])
        self._db.register("subset", kept)
        scores = [score.value for score in self.plan.scores]
        terms = [f"{score.value}_by_checkpoint" for score in self.plan.scores if score in ESTIMATORS]
        columns = ", ".join(["uid", "shard", "key", "row", *scores, *terms])
        best = "row_number() OVER (PARTITION BY uid ORDER BY turn NULLS LAST, place) = 1"
        places = ", ".join(
            f"(row_number() OVER (ORDER BY {column} NULLS LAST, uid))::INTEGER AS place_{ranking}"
            for ranking, column in zip(self.rankings, [*(f"{score} DESC" for score in scores), "turn"], strict=True)
        )
        self._db.execute(f"""
            CREATE TABLE score_table AS
            WITH single AS (
                SELECT {columns}, left(caption, {MAX_CAPTION}) AS caption, turn
                FROM samples LEFT JOIN turns USING (place) QUALIFY {best}
            )
            SELECT *, uid IN (SELECT uid FROM subset) AS kept, {places} FROM single
        """)
        self._db.execute("DROP VIEW samples; DROP TABLE drawn")

    def _draw(self) -> None:
        """Create the table `drawn` and replace `samples` with it, so that the cost does not grow with the pool."""
        ((total,),) = self._db.execute("SELECT count(*) FROM samples").fetchall()
        stride = -(-total // MAX_ROWS)
        self._db.execute(f"CREATE TEMP TABLE drawn AS SELECT * FROM samples WHERE hash(uid) % {stride} = 0")
        ((rows,),) = self._db.execute("SELECT count(*) FROM drawn").fetchall()
        self.share = rows / total
        self._db.execute("CREATE OR REPLACE TEMP VIEW samples AS SELECT * FROM drawn")

    def _turns(self) -> None:
        """Create the table `turns` (place, turn): the order in which the selection takes samples, for any k.

        Quotas that depend on k (`max`, `max_share`, `shares`) have no such order and are left out. In a draw of the
        pool, possibly no sample passes the filters.
        """
        spec, source, order = self.selection.spec, "ranked", VALUE_ORDER
        try:
            create_scored(self._db, spec)
            create_valued(self._db, spec)
        except InvalidSpec:
            self._db.execute("CREATE TEMP TABLE turns AS SELECT place, 0 AS turn FROM samples WHERE false")
            return
        if spec.distinct or (spec.quota and spec.quota.balance):
            rule = spec if spec.quota is None or spec.quota.balance else spec.model_copy(update={"quota": None})
            order = create_allowed(self._db, source, rule, None, load_target_clusters(self.storage, self.plan))
            source = "allowed"
        turn = f"row_number() OVER (ORDER BY {order})"
        self._db.execute(f"CREATE TEMP TABLE turns AS SELECT place, {turn} AS turn FROM {source}")

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self._lock:
            return self._db.execute(sql).fetchall()

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a column of the table, (rows,)."""
        with self._lock:
            found = self._db.execute(f"SELECT {name} FROM score_table ORDER BY uid").fetchnumpy()[name]
        return cast(npt.NDArray[Any], found)

    def position(self, k: int) -> int:
        """Return the number of rows that stand for the best k samples of the pool, at least one."""
        return min(max(1, round(k * self.share)), self.rows)

    def samples(self, where: str, order: str, limit: int) -> list[SampleView]:
        """Return samples of the table, in order."""
        with self._lock:
            found = self._db.execute(f"SELECT * FROM score_table WHERE {where} ORDER BY {order} LIMIT {limit}")
            names = [column[0] for column in found.description]
            rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        return self._sample_views(rows)

    def close(self) -> None:
        """Close the connection."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
