"""Estimates of a job's memory and time, made without running it."""

from coreset_workers.estimates import memory, time

__all__ = ["memory", "time"]
