"""Fixtures of the service's tests, for the points that concern it."""

from tests.service.conftest import api, app, succeeded

__all__ = ["api", "app", "succeeded"]
