"""Messages of webhooks, signed as Standard Webhooks (standardwebhooks.com) asks, and the check of receivers."""

import base64
import hashlib
import hmac
from datetime import datetime
from typing import Literal

import httpx

from coreset.access.addresses import public_addresses
from coreset.errors import InvalidSpec, Unavailable
from coreset.schemas.job import JobStatus, Reason
from coreset.spec.job import JobSpec, Strict, WebhookEvent
from coreset_service.webhooks.outbox import Delivery

PORTS = {"http": 80, "https": 443}


class JobEnded(Strict):
    """The job in a webhook; the rest is at `links.self`."""

    id: str
    object: Literal["job"] = "job"
    status: JobStatus
    reason: Reason | None
    links: dict[str, str]


class WebhookBody(Strict):
    """The body of a webhook.

    Attributes:
        timestamp: when the job ended.
    """

    type: WebhookEvent
    timestamp: datetime
    data: JobEnded


def body_of(delivery: Delivery) -> bytes:
    """Return the message: the same bytes at every try."""
    ended = JobEnded(
        id=delivery.job_id,
        status=delivery.status,
        reason=delivery.reason,
        links={"self": f"/v1/jobs/{delivery.job_id}"},
    )
    body = WebhookBody.model_validate({"type": f"job.{delivery.status}", "timestamp": delivery.at, "data": ended})
    return body.model_dump_json().encode()


def signed_headers(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of Standard Webhooks: id, time of this try, and HMAC-SHA256 of `id.timestamp.body`."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }


def require_deliverable(spec: JobSpec, secret: bool, private: bool) -> None:
    """Validate that the end of a job could be sent to its webhook.

    Raises:
        InvalidSpec: this service has no secret to sign with, or the host cannot be found.
        AddressForbidden: it is a host of a private network.
    """
    if spec.webhook is None:
        return
    if not secret:
        raise InvalidSpec(
            "this service sends no webhooks, since it has no CORESET_WEBHOOK_SECRET; leave `webhook` out",
            field="webhook",
        )
    try:
        address_of(httpx.URL(spec.webhook.url), private)
    except httpx.InvalidURL as error:
        detail = f"webhook.url is not a URL: {error}; expected https://HOST/PATH"
        raise InvalidSpec(detail, field="webhook.url") from error
    except Unavailable as error:
        raise InvalidSpec(f"webhook.url: {error.detail}", field="webhook.url") from error


def address_of(url: httpx.URL, private: bool) -> str | None:
    """Return the checked address to connect to; None is whatever the name resolves to.

    Raises:
        AddressForbidden: it is not public.
        Unavailable: the name cannot be resolved.
    """
    return None if private else public_addresses(url.host, url.port or PORTS[url.scheme])[0]
