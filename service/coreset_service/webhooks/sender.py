"""Sender of the webhooks in the outbox, in threads of the service.

An answer of 2xx completes a delivery. After any other answer, or none within TIMEOUT_SECONDS, it is tried again, for a
day at most. Redirects are not followed, since their addresses are unchecked.
"""

import asyncio
import random
import threading
import time
from collections.abc import Mapping

import httpx
import structlog

from coreset.errors import AddressForbidden, CoresetError, Unavailable
from coreset_service.webhooks.message import checked_address, signed_headers, webhook_body
from coreset_service.webhooks.outbox import Delivery, Outbox

PAUSES = (5, 300, 1800, 7200, 18_000, 36_000, 21_600)
"""Seconds between attempts, 23.6 hours in all: the schedule of Standard Webhooks, cut at a day."""

TIMEOUT_SECONDS = 15.0
LEASE_SECONDS = 60.0
POLL_SECONDS = 1.0
THREADS = 4
"""Sending threads: a few receivers that do not answer must not delay the others."""

GONE = 410
"""Status of a receiver that wants no further messages, so that the delivery is given up."""

log = structlog.get_logger("coreset_service.webhooks.sender")


class WebhookSender:
    """Threads that deliver due messages.

    Args:
        secret: `whsec_` and the base64 of the key.
        private: also send to addresses that are not public.
    """

    def __init__(self, outbox: Outbox, secret: str, private: bool) -> None:
        self._outbox = outbox
        self._secret = secret
        self._private = private
        self._stopping = threading.Event()

    def start(self) -> None:
        self._stopping.clear()
        for number in range(THREADS):
            threading.Thread(target=self._run, name=f"webhooks-{number}", daemon=True).start()

    def stop(self) -> None:
        """Take no further deliveries. Those under way are not awaited: an interrupted one is sent again."""
        self._stopping.set()

    def send_due(self) -> int:
        """Send the due messages and return how many arrived. Raises Unavailable if Redis does not answer."""
        delivered = 0
        while not self._stopping.is_set() and (delivery := self._outbox.take(LEASE_SECONDS)) is not None:
            delivered += self._deliver(delivery)
        return delivered

    def _deliver(self, delivery: Delivery) -> bool:
        outcome = self._send(delivery)
        about = {"job": delivery.job_id, "url": delivery.url, "outcome": outcome, "attempt": delivery.attempts + 1}
        if isinstance(outcome, int) and 200 <= outcome < 300:
            log.info("webhook delivered", **about)
            self._outbox.remove(delivery.job_id)
            return True
        if outcome == GONE or delivery.attempts >= len(PAUSES):
            log.error("webhook given up", **about)
            self._outbox.remove(delivery.job_id)
            return False
        pause = PAUSES[delivery.attempts] * random.uniform(0.9, 1.0)  # jitter, so that the attempts of many jobs spread
        log.warning("webhook not delivered", again_in=round(pause), **about)
        self._outbox.postpone(delivery.job_id, pause)
        return False

    def _send(self, delivery: Delivery) -> int | str:
        """Return the answer's status, or the error."""
        body = webhook_body(delivery)
        headers = signed_headers(self._secret, f"msg_{delivery.job_id}", int(time.time()), body)
        url = httpx.URL(delivery.url)
        try:
            return asyncio.run(_post(url, checked_address(url, self._private), headers, body))
        except (httpx.HTTPError, TimeoutError) as error:
            return type(error).__name__
        except (AddressForbidden, Unavailable) as error:
            return error.detail

    def _run(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            try:
                self.send_due()
            except CoresetError as error:
                log.warning("webhooks cannot be sent", detail=error.detail)
            except Exception:
                log.exception("sending webhooks failed")


async def _post(url: httpx.URL, address: str | None, headers: Mapping[str, str], body: bytes) -> int:
    """Post to a checked address under the host's name, which may resolve to another address by now.

    The timeout is that of the whole exchange; httpx's own restarts with every byte that a slow receiver sends.
    """
    to = url if address is None else url.copy_with(host=address)
    named = {**headers, "Host": url.netloc.decode()}
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client,
        client.stream("POST", to, content=body, headers=named, extensions={"sni_hostname": url.host}) as answer,
    ):
        return answer.status_code
