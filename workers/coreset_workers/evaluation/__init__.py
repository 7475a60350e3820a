"""Proxies: small models trained from scratch on a selection to measure its value (docs/quality.md)."""

from coreset_workers.evaluation import decoded, measure, plan, train, trial

__all__ = ["decoded", "measure", "plan", "train", "trial"]
