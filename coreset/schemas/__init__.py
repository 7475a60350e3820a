"""Models of what the service and the workers answer and store."""
# pyright: reportUnsupportedDunderAll=false

__all__ = [
    "cut_diff",
    "diagnosis",
    "evaluation",
    "events",
    "intervals",
    "job",
    "manifest",
    "part",
    "plan",
    "preflight",
    "problems",
    "sample",
    "summary",
    "trials",
]
