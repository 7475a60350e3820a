"""The job spec: what a caller may ask for."""
# pyright: reportUnsupportedDunderAll=false

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
]
