"""Webhooks: the outbox, the message and its signature, the sender."""
