"""Webhook message of a job's end, signed by Standard Webhooks (standardwebhooks.com), and its allowed targets."""

from datetime import UTC, datetime
from typing import Literal

import httpx
from standardwebhooks import Webhook

from coreset.access.addresses import public_addresses
from coreset.errors import InvalidSpec, Unavailable
from coreset.schemas.job import JobStatus, Reason
from coreset.spec.base import FrozenModel
from coreset.spec.job import JobSpec, WebhookEvent
from coreset_service.webhooks.outbox import Delivery

PORTS = {"http": 80, "https": 443}


class JobEnded(FrozenModel):
    """A job that has ended; the rest is at `links.self`."""

    id: str
    object: Literal["job"] = "job"
    status: JobStatus
    reason: Reason | None
    links: dict[str, str]


class WebhookBody(FrozenModel):
    """Body of a webhook.

    Attributes:
        timestamp: the job's end.
    """

    type: WebhookEvent
    timestamp: datetime
    data: JobEnded


def webhook_body(delivery: Delivery) -> bytes:
    """Return the message, with equal bytes at every attempt."""
    ended = JobEnded(
        id=delivery.job_id,
        status=delivery.status,
        reason=delivery.reason,
        links={"self": f"/v1/jobs/{delivery.job_id}"},
    )
    body = WebhookBody.model_validate({"type": f"job.{delivery.status}", "timestamp": delivery.at, "data": ended})
    return body.model_dump_json().encode()


def signed_headers(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of Standard Webhooks: id, time of this attempt, and signature of id, time and body."""
    signature = Webhook(secret).sign(message_id, datetime.fromtimestamp(timestamp, UTC), body.decode())
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature,
    }


def require_deliverable(spec: JobSpec, secret: bool, private: bool) -> None:
    """Reject a job whose webhook could not be delivered.

    Raises:
        InvalidSpec: the service has no secret to sign with, or the host cannot be found.
        AddressForbidden: the host is in a private network.
    """
    if spec.webhook is None:
        return
    if not secret:
        raise InvalidSpec(
            "this service sends no webhooks, since it has no CORESET_WEBHOOK_SECRET; leave `webhook` out",
            field="webhook",
        )
    try:
        checked_address(httpx.URL(spec.webhook.url), private)
    except httpx.InvalidURL as error:
        detail = f"webhook.url is not a URL: {error}; expected https://HOST/PATH"
        raise InvalidSpec(detail, field="webhook.url") from error
    except Unavailable as error:
        raise InvalidSpec(f"webhook.url: {error.detail}", field="webhook.url") from error


def checked_address(url: httpx.URL, private: bool) -> str | None:
    """Return the address to connect to; None if private ones are allowed, so that the name decides.

    Raises:
        AddressForbidden: the address is not public.
        Unavailable: the name cannot be resolved.
    """
    return None if private else public_addresses(url.host, url.port or PORTS[url.scheme])[0]
