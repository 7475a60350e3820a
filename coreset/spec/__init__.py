"""The job spec: what a caller may ask for."""

__all__ = [
    "base",
    "cleaning",
    "columns",
    "evaluation",
    "filters",
    "job",
    "model",
    "pool",
    "proxies",
    "scores",
    "selection",
    "shard_uris",
]  # pyright: ignore[reportUnsupportedDunderAll]
