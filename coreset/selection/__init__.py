"""Selecting a subset from the scores of a plan, with DuckDB."""
