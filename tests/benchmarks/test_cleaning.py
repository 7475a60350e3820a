"""The cleaning benchmark counts right: errors found against counting by hand, mixes against a job's own ranking."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.cleaning import Scored, flipped, found
from benchmarks.quality import pools
from benchmarks.quality.pools import CIFAR_CLASSES, Pair
from coreset.selection.select import select
from coreset.spec.scores import Score
from coreset.spec.selection import SelectSpec
from coreset.storage.storage import Storage
from tests.coreset.selections import plan_of, write_parts


def test_what_is_found_is_counted() -> None:
    wrong = np.array([True, False, True, False, False, False, False, True, False, False])
    value = np.arange(10.0)
    outcome = found(value, wrong)
    pairs = [(i, j) for i in np.flatnonzero(wrong) for j in np.flatnonzero(~wrong)]
    assert outcome == {
        "auc": pytest.approx(np.mean([i < j for i, j in pairs])),
        "precision": pytest.approx(2 / 3),
        "found_10": pytest.approx(1 / 3),
        "found_20": pytest.approx(1 / 3),
    }
    assert found(-value, wrong)["auc"] == pytest.approx(1 - outcome["auc"])


def test_a_mix_puts_samples_where_a_job_would(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    scores = [Score.DIFFIN, Score.CLIP_SCORE]
    columns = {score.value: draws.normal(size=60).astype(np.float32).astype(float) for score in scores}
    storage, plan = Storage(str(tmp_path)), plan_of(1, scores=scores, part_version=1, metadata=[], clusters=0)
    rows = [{"uid": f"{i:032x}", "caption": "a", **{n: float(c[i]) for n, c in columns.items()}} for i in range(60)]
    write_parts(storage, plan, [rows])
    kept = select(storage, plan, "job", SelectSpec(k=60, by=dict.fromkeys(scores, 1))).files["subset.parquet"]
    ranks = dict(zip(pq.read_table(kept.uri)["uid"].to_pylist(), range(60), strict=True))
    value = Scored(columns, np.zeros(60, bool)).value("diffin+clip_score")
    order = sorted(range(60), key=lambda i: ranks[f"{i:032x}"])
    assert (np.diff(value[order]) <= 1e-9).all()


def test_flips_are_so_many_and_to_other_classes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = [CIFAR_CLASSES[i % 10] for i in range(200)]
    pairs = [Pair(f"{i:032x}", b"", f"a photo of a {name}", facts={"class_name": name}) for i, name in enumerate(names)]
    monkeypatch.setitem(pools.POOLS, "cifar_clean", lambda data, run: {"pool": pairs})
    spoilt = flipped(tmp_path, 0.3)
    changed = [(before, after) for before, after in zip(pairs, spoilt, strict=True) if before != after]
    assert len(changed) == 60 == sum(pair.fault == "flipped" for pair in spoilt)
    for before, after in changed:
        article, named = after.caption.removeprefix("a photo of ").split()
        assert article == ("an" if named in ("airplane", "automobile") else "a")
        assert named in CIFAR_CLASSES
        assert named != before.facts["class_name"]
    assert flipped(tmp_path, 0.3) == spoilt
