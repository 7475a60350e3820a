"""The judgments benchmark on a few drawn photos: what is read, what is left out, and correlations that are known."""

import csv
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.judgments import TEXT, Judged, agreement, measure, read_judgments
from benchmarks.shards import write_shard
from coreset_workers.data.tar import RawSample
from demo.drawing import draw, jpeg
from demo.plan import sound_pool

IMAGES, HELD = 8, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images, six of them in shards, with five captions and some judgments each; three lines are damaged."""
    folder = tmp_path_factory.mktemp("judged")
    planned = sound_pool(5 * IMAGES, seed=1)
    rows = [
        {"uid": f"{i:032x}", "image": f"{i // 5}.jpg", "split": "test", "caption_id": i % 5, "caption": planned[i].text}
        for i in range(5 * IMAGES)
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter="\t")
    writer.writeheader()
    writer.writerows(rows)
    (folder / "captions_all5.tsv.gz").write_bytes(gzip.compress(text.getvalue().encode()))
    raws = [
        RawSample("", "", i, {
            "jpg": jpeg(draw(planned[5 * i].scene), 90),
            "txt": planned[5 * i].text.encode(),
            "json": json.dumps({"uid": f"{5 * i:032x}", "image": f"{i}.jpg"}).encode(),
        })
        for i in range(HELD)
    ]  # fmt: skip
    for split, part in (("train", raws[:3]), ("test", raws[3:])):
        (folder / split).mkdir()
        write_shard(folder / split / "000000.tar", part)
    (folder / "human_judgments").mkdir()
    pairs = [(i, other) for i in range(IMAGES) for other in range(IMAGES)]
    expert = [f"{i}.jpg\t{other}.jpg#2\t{1 + (i + other) % 4}\t{1 + other % 4}\t2" for i, other in pairs]
    crowd = [f"{i}.jpg\t{other}.jpg#1\t{(i == other) / 1}\t3\t0" for i, other in pairs]
    for name, lines in (("Expert", expert), ("CrowdFlower", [*crowd, "\xff\xff", "a.jpg\tb", "a.jpg\tb#1\tx\t1\t2"])):
        path = folder / "human_judgments" / f"{name}Annotations.txt.gz"
        path.write_bytes(gzip.compress("\n".join([*lines, ""]).encode("latin-1")))
    return folder


def test_judgments_are_read_without_damaged_lines_and_experts_own_captions(folder: Path) -> None:
    found, damaged = read_judgments(folder / "human_judgments")
    assert damaged == 3
    assert len(found["crowd"]) == IMAGES**2
    assert len(found["expert"]) == IMAGES**2 - IMAGES
    assert found["expert"][0] == Judged("0.jpg", "1.jpg#2", (2.0, 2.0, 2.0))
    assert found["crowd"][1].ratings == (0.0,)


def test_pairs_with_an_image_are_scored_by_a_job_and_all_by_the_text_tower(
    folder: Path, tiny_run: Path, tmp_path: Path
) -> None:
    found = measure(folder, tiny_run, None, tmp_path)
    assert (found["judged_images"], found["in_shards"], found["damaged_lines"]) == (IMAGES, HELD, 3)
    assert found["crowd"]["clip_score"]["pairs"] == HELD * IMAGES
    assert found["expert"]["loss"]["ratings"] == 3 * HELD * (IMAGES - 1)
    assert found["crowd"][TEXT]["pairs"] == IMAGES**2
    for who in ("expert", "crowd"):
        for row in found[who].values():
            assert -1 <= row["tau_b_95"][0] <= row["tau_b_95"][1] <= 1


def test_agreement_is_scipys_over_single_ratings() -> None:
    draws = np.random.default_rng(0)
    pairs = [Judged(f"{i % 20}.jpg", f"x#{i}", tuple(draws.integers(1, 5, size=3).astype(float))) for i in range(100)]
    score = {pair.uid: sum(pair.ratings) + draws.normal() for pair in pairs}
    found = agreement(pairs, score)
    flat = [(score[pair.uid], rating) for pair in pairs for rating in pair.ratings]
    values, ratings = zip(*flat, strict=True)
    assert found["tau_c"] == pytest.approx(stats.kendalltau(values, ratings, variant="c").statistic)
    assert found["tau_c_95"][0] < found["tau_c"] < found["tau_c_95"][1]
    assert (found["pairs"], found["ratings"], found["images"]) == (100, 300, 20)
