"""Proxies: small models trained from scratch on a selection to measure its value (docs/quality.md)."""

from coreset_workers.evaluation import measure, plan, train, trial

__all__ = ["measure", "plan", "train", "trial"]
