"""Assets shared by the service's pages and the report: style sheet, charts, contact sheets."""

from pathlib import Path

__all__ = ["FOLDER"]

FOLDER = Path(__file__).parent
