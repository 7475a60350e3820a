"""What the service's page and the report have in common in a browser: style sheet, charts, contact sheets."""

from pathlib import Path

FOLDER = Path(__file__).parent
