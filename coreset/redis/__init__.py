"""Connections to Redis: its data model, errors, locks, counters, and the Lua scripts that change a job."""
# pyright: reportUnsupportedDunderAll=false

__all__ = ["connection", "counters", "errors", "keys", "locks", "scripts"]
