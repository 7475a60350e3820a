"""Selection of a subset from a plan's scores, with DuckDB."""

__all__ = ["agreement", "candidates", "quota", "ranking", "requirements", "select", "trial_plan"]  # pyright: ignore[reportUnsupportedDunderAll]
