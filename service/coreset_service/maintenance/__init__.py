"""Reconciling, deleting and diagnosing jobs."""
