"""Issue 18, point 23: a check foretells the job's selection and what is left to do, and prints whole paths."""

from pathlib import Path

import pytest

from coreset.cli.preflight import show_preflight
from coreset.errors import InvalidSpec
from coreset.schemas.plan import Sourced
from coreset.schemas.preflight import Preflight
from coreset.selection.select import select
from coreset.spec.scores import Score
from coreset.spec.selection import Sampling, SelectSpec
from coreset.storage.storage import Storage
from coreset_service.api_docs.examples import PREFLIGHT
from coreset_workers.stages.preflight import _outputs, _remaining, _require_k
from tests.coreset.selections import plan_of, write_parts

FOUND = Preflight.model_validate(PREFLIGHT)


def test_the_selection_is_the_one_that_the_job_gets(tmp_path: Path) -> None:
    storage, plan = Storage(str(tmp_path)), plan_of(1)
    rows = [
        {"uid": f"{i:032x}", "caption": f"scene {i}", "clip_score": i / 8, "random": 0.5, "cluster": i % 2}
        | {"image_width": 32, "image_height": 32, "metadata_lang": None}
        for i in range(8)
    ]
    write_parts(storage, plan, [rows])
    spec = SelectSpec(k=3)  # ranked by CLIP score, since this plan has no Diff-In
    outputs = _outputs(plan, plan.id, spec, storage)
    assert outputs.selection.endswith(f"/{select(storage, plan, 'ID', spec).id}")
    assert outputs.parts_existing == 1


@pytest.mark.parametrize(
    ("prepared", "parts", "prepare", "score"), [(False, 0, 30.0, 80.0), (True, 0, 0.0, 80.0), (True, 3, 0.0, 20.0)]
)
def test_the_time_is_what_is_left(prepared: bool, parts: int, prepare: float, score: float) -> None:
    time = FOUND.time.model_copy(update={"prepare_seconds": 30.0, "score_seconds": 80.0})
    outputs = FOUND.outputs.model_copy(update={"prepared": prepared, "parts_existing": parts})
    left = _remaining(time, outputs, 4)
    assert (left.prepare_seconds, left.score_seconds) == (prepare, score)


def test_a_k_above_the_counted_samples_is_rejected() -> None:
    plan = plan_of(1).model_copy(update={"n_samples": Sourced(value=100, source="tar headers")})
    by = {Score.CLIP_SCORE: 1.0}
    with pytest.raises(InvalidSpec, match="k is 101, but the pool has 100 samples"):
        _require_k(plan, SelectSpec(k=101, by=by))
    _require_k(plan, SelectSpec(k=100, by=by))
    _require_k(plan, SelectSpec(k=200, by=by, sampling=Sampling(temperature=1, max_repeats=2)))
    estimated = plan.model_copy(update={"n_samples": Sourced(value=100, source="estimated from sizes")})
    _require_k(estimated, SelectSpec(k=101, by=by))


def test_paths_are_not_broken(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coreset.cli.output.out.width", 80)
    uri = f"/data/{'long-folder/' * 12}epoch_1.pt"
    checkpoint = FOUND.checkpoints[0].model_copy(update={"uri": uri})
    show_preflight(FOUND.model_copy(update={"checkpoints": [checkpoint]}))
    assert f"checkpoint {uri}\n" in capsys.readouterr().out
