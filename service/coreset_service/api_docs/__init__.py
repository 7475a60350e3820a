"""OpenAPI description of the service, and its examples."""

from coreset_service.api_docs.openapi import describe

__all__ = ["describe"]
