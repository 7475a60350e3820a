"""Routes, one module per resource. They share `dependencies`, and never import one another."""

from fastapi import APIRouter

from coreset_service.routes import (
    browsing,
    diagnosis,
    evaluation,
    events,
    health,
    jobs,
    login,
    page,
    reference,
    scores,
    selections,
)

__all__ = ["API_ROUTERS", "PAGE_ROUTERS"]

API_ROUTERS: tuple[APIRouter, ...] = tuple(
    resource.router for resource in (jobs, events, selections, scores, browsing, evaluation, diagnosis)
)
"""Routes that take an API key, in the order of the API's reference page."""

PAGE_ROUTERS: tuple[APIRouter, ...] = tuple(resource.router for resource in (health, page, reference, login))
"""Pages, and addresses for load balancers and monitoring."""
