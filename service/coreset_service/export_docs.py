"""Generator of docs/openapi.json, docs/problems.md and docs/spec.md: `python -m coreset_service.export_docs docs`."""

import json
import sys
from pathlib import Path

from coreset.settings import ServiceSettings
from coreset_service.api_docs.spec_page import spec_page
from coreset_service.app import create_app
from coreset_service.http.problem_texts import problems_page
from coreset_service.http.problems import all_types


def main(folder: Path) -> None:
    """Write the files into the folder."""
    description = create_app(ServiceSettings()).openapi()
    (folder / "openapi.json").write_text(json.dumps(description, indent=1) + "\n")
    (folder / "spec.md").write_text(spec_page(description))
    (folder / "problems.md").write_text(problems_page(all_types()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
