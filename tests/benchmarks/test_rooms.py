"""docs/architecture.md has every folder of the packages, and none that is gone."""

import re
from pathlib import Path

from benchmarks.rooms import files_by_room

PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()


def test_the_table_of_folders_is_that_of_the_tree() -> None:
    assert re.findall(r"^\| `([\w/]+)` \| .* \| [\d,]+ \| [\d,]+ \|", PAGE, re.MULTILINE) == list(files_by_room())
