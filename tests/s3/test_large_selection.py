"""Requests of a selection from a large pool on S3: a few per part, however many columns the parts have."""

import pytest

from coreset.selection.large import run
from coreset.selection.select import select
from coreset.spec.selection import SelectSpec
from coreset.storage.storage import Storage
from tests.coreset.selection.test_large import RECIPE, drawn, write_columns
from tests.coreset.selections import plan_of
from tests.s3.faulty_proxy import FaultyProxy

PARTS = 12


@pytest.mark.slow
def test_each_part_takes_six_requests_and_the_selection_a_few_more(
    bucket: str, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, plan = Storage(f"{bucket}/results"), plan_of(PARTS)
    for shard in range(PARTS):
        write_columns(storage, plan, shard, drawn(50, shard))
    asked: list[str] = []
    proxy.choose = lambda method, path: asked.append(f"{method} {path}")
    monkeypatch.setattr(run, "LARGE_POOL", 1)
    assert select(storage, plan, "job", SelectSpec.model_validate(RECIPE)).k > 40 * PARTS
    assert len(asked) <= 6 * PARTS + 40  # size and bytes of a summary, of a part, and of the part's selected rows
    assert sum("parquet" in line and line.startswith("GET") for line in asked) <= 2 * PARTS
