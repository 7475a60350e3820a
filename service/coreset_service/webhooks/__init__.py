"""Webhooks: transactional outbox, signed message, sender."""

from coreset_service.webhooks.message import WebhookBody, require_deliverable
from coreset_service.webhooks.outbox import Outbox
from coreset_service.webhooks.sender import WebhookSender

__all__ = ["Outbox", "WebhookBody", "WebhookSender", "require_deliverable"]
