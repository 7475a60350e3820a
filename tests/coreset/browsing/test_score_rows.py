"""Rows as a stream: a piece at a time, and nothing is left behind by who stops reading."""

from pathlib import Path

import pytest

from coreset.browsing.score_query import Format, ScoreQuery
from coreset.browsing.score_rows import export_scores
from coreset.storage.storage import Storage
from tests.coreset.selections import plan_of, write_parts

PIECE = 2048
"""Rows; DuckDB's own vectors are no smaller."""


@pytest.mark.parametrize("kind", ["ndjson", "csv", "parquet", "arrow"])
def test_rows_come_in_pieces_and_who_stops_reading_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Format
) -> None:
    storage, plan, spills = Storage(str(tmp_path / "storage")), plan_of(1), tmp_path / "spills"
    spills.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spills))
    sample = {"caption": "red", "clip_score": 0.5, "random": 0.5}
    monkeypatch.setattr("coreset.browsing.export_formats.ROWS", PIECE)
    write_parts(storage, plan, [[{"uid": f"{i:032x}", **sample} for i in range(4 * PIECE)]])
    pieces = [len(piece) for piece in export_scores(storage, plan, ScoreQuery(), kind)]
    assert len(pieces) > 2
    assert max(pieces) < 0.7 * sum(pieces)
    begun = export_scores(storage, plan, ScoreQuery(), kind)
    next(begun)
    assert list(spills.iterdir())
    begun.close()
    assert list(spills.iterdir()) == []
