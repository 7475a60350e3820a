"""Selection of a subset from a plan's scores, with DuckDB."""
# pyright: reportUnsupportedDunderAll=false

__all__ = ["agreement", "candidates", "quota", "ranking", "requirements", "select", "trial_plan"]
