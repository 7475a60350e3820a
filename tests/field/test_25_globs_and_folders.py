"""A local folder, and patterns with `*`, as shards."""

from pathlib import Path

import pytest

from coreset.access.locations import Locations
from coreset.errors import LocationForbidden, ShardUnreadable
from coreset_workers.data import opening
from coreset_workers.data.listing import expand
from tests.field.pools import sample, write_tar


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    for name in ("b/1.tar", "b/0.tar", "a/0.tar"):
        write_tar(tmp_path / name, sample("k", 1))
    (tmp_path / "b/sizes.json").write_text("{}")
    return tmp_path


def test_a_folder_stands_for_its_tars_and_a_star_for_what_it_matches(pool: Path) -> None:
    assert expand([str(pool / "b")]) == [str(pool / "b/0.tar"), str(pool / "b/1.tar")]
    assert expand([f"{pool}/*/0.tar"]) == [str(pool / "a/0.tar"), str(pool / "b/0.tar")]
    every = [str(pool / name) for name in ("a/0.tar", "b/0.tar", "b/1.tar")]
    assert expand([f"{pool}/{{a,b}}/*.tar"]) == expand([f"{pool}/a::{pool}/b"]) == every


def test_a_shard_that_a_star_and_a_name_give_is_listed_twice(pool: Path) -> None:
    with pytest.raises(ShardUnreadable, match=r"listed twice: .*a/0\.tar"):
        expand([f"{pool}/*/*.tar", str(pool / "a/0.tar")])


@pytest.mark.parametrize("pattern", ["none*.tar", "empty"])
def test_what_matches_nothing_is_named(pool: Path, pattern: str) -> None:
    (pool / "empty").mkdir()
    with pytest.raises(ShardUnreadable, match=r"matches no file"):
        expand([str(pool / pattern)])


def test_http_lists_no_files(pool: Path) -> None:
    with pytest.raises(ShardUnreadable, match="write a brace range instead"):
        expand(["https://example.org/*.tar"])


@pytest.mark.parametrize("pattern", ["**", "*/*/*/*.tar"])
def test_a_pattern_that_would_walk_a_whole_disk_is_refused(pool: Path, pattern: str) -> None:
    with pytest.raises(ShardUnreadable, match="at most 3 folders or names with"):
        expand([f"{pool}/{pattern}"])


def test_a_star_lists_nothing_behind_a_link_that_leads_out(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pool / "a/out").symlink_to(pool / "b")
    monkeypatch.setattr(opening, "_locations", Locations.parse(str(pool / "a")))
    for pattern in ("out/*.tar", "out"):
        with pytest.raises(LocationForbidden, match="a link that leads out"):
            expand([f"{pool}/a/{pattern}"])


def test_a_pattern_and_what_it_matches_must_be_allowed(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_locations", Locations.parse(str(pool / "a")))
    assert expand([f"{pool}/a/*.tar"]) == [str(pool / "a/0.tar")]
    with pytest.raises(LocationForbidden):
        expand([f"{pool}/*/0.tar"])
