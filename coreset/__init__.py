"""The contract of the coreset selection service: spec, plan, parts, selection, errors, state. Never imports torch."""

__version__ = "0.1.0"
