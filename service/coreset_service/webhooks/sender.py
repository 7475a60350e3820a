"""Sends webhooks from the outbox, in threads of the service.

An answer of 2xx takes a message out; anything else, and no answer within TIMEOUT_SECONDS, leaves it for another try,
for a day at most. Redirects are not followed: they lead where nobody has looked.
"""

import asyncio
import random
import threading
import time
from collections.abc import Mapping

import httpx
import structlog

from coreset.errors import AddressForbidden, CoresetError, Unavailable
from coreset_service.webhooks.message import address_of, body_of, signed_headers
from coreset_service.webhooks.outbox import Delivery, Outbox

PAUSES = (5, 300, 1800, 7200, 18_000, 36_000, 21_600)
"""Seconds between tries, 23.6 hours together: those that Standard Webhooks proposes, cut at a day."""

TIMEOUT_SECONDS = 15.0
LEASE_SECONDS = 60.0
LOOK_SECONDS = 1.0
THREADS = 4
"""So that a few receivers that do not answer keep no others waiting."""

GONE = 410
"""The receiver wants no more: no other try."""

log = structlog.get_logger("coreset_service.webhooks.sender")


class WebhookSender:
    """Args:
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
        """Take no more. What is on its way is not waited for: if it gets lost, it is sent again."""
        self._stopping.set()

    def send_due(self) -> int:
        """Send what is due. Returns how many were told. Raises Unavailable when Redis does not answer."""
        told = 0
        while not self._stopping.is_set() and (delivery := self._outbox.take(LEASE_SECONDS)) is not None:
            told += self._told(delivery)
        return told

    def _told(self, delivery: Delivery) -> bool:
        outcome = self._send(delivery)
        about = {"job": delivery.job_id, "url": delivery.url, "outcome": outcome, "attempt": delivery.attempts + 1}
        if isinstance(outcome, int) and 200 <= outcome < 300:
            log.info("webhook told", **about)
            self._outbox.remove(delivery.job_id)
            return True
        if outcome == GONE or delivery.attempts >= len(PAUSES):
            log.error("webhook given up", **about)
            self._outbox.remove(delivery.job_id)
            return False
        pause = PAUSES[delivery.attempts] * random.uniform(0.9, 1.0)  # many jobs' tries do not come in one moment
        log.warning("webhook not told", again_in=round(pause), **about)
        self._outbox.postpone(delivery.job_id, pause)
        return False

    def _send(self, delivery: Delivery) -> int | str:
        """Return the answer's status, or what went wrong."""
        body = body_of(delivery)
        headers = signed_headers(self._secret, f"msg_{delivery.job_id}", int(time.time()), body)
        url = httpx.URL(delivery.url)
        try:
            return asyncio.run(_post(url, address_of(url, self._private), headers, body))
        except (httpx.HTTPError, TimeoutError) as error:
            return type(error).__name__
        except (AddressForbidden, Unavailable) as error:
            return error.detail

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self.send_due()
            except CoresetError as error:
                log.warning("cannot send webhooks", detail=error.detail)
            except Exception:
                log.exception("sending webhooks failed")


async def _post(url: httpx.URL, address: str | None, headers: Mapping[str, str], body: bytes) -> int:
    """Post to an address that was checked, under the host's name: by now the name may resolve to another one.

    The time is that of the whole exchange; httpx's own would begin anew with every byte of a receiver that drips.
    """
    to = url if address is None else url.copy_with(host=address)
    named = {**headers, "Host": url.netloc.decode()}
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client,
        client.stream("POST", to, content=body, headers=named, extensions={"sni_hostname": url.host}) as answer,
    ):
        return answer.status_code
