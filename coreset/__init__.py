"""The contract of the coreset selection service: job spec, plan, parts, selection, errors, state. Never imports torch."""

__version__ = "0.1.0"
