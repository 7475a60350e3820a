"""The `coreset` command."""

from coreset.cli.app import app

__all__ = ["app"]
