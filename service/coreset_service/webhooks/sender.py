"""Sender of the webhooks in the outbox: one thread of the service, many deliveries at a time.

An answer of 2xx takes a message out; anything else, and no answer within TIMEOUT_SECONDS, leaves it for another try,
for a day at most. Redirects are not followed: their targets are unchecked.
"""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import httpx
import structlog

from coreset.errors import AddressForbidden, CoresetError, Unavailable
from coreset.redaction import mask_path
from coreset_service.webhooks.message import checked_address, signed_headers, webhook_body
from coreset_service.webhooks.outbox import Delivery, Outbox

PAUSES = (5, 300, 1800, 7200, 18_000, 36_000, 21_600)
"""Seconds between tries, 23.6 hours together: those that Standard Webhooks proposes, cut at a day."""

TIMEOUT_SECONDS = 15.0
"""Of a try as a whole: the name's resolution, the connection and the answer."""
LEASE_SECONDS = 60.0
LOOK_SECONDS = 1.0
AT_ONCE = 128
"""Tries in progress, of all receivers."""
OF_ONE_RECEIVER = 4
"""Tries in progress of one host and port."""
BUSY_SECONDS = 2.0
"""Pause of a message whose receiver has OF_ONE_RECEIVER tries in progress."""
RESOLVERS = 32
"""Threads that resolve names: a name server may take as long as it likes."""

GONE = 410
"""Status by which a receiver asks for no more tries."""

log = structlog.get_logger("coreset_service.webhooks.sender")


class WebhookSender:
    """Sends what is due, so that slow receivers delay their own messages alone.

    Args:
        secret: `whsec_` and the base64 of the key.
        private: also send to addresses that are not public.
    """

    def __init__(self, outbox: Outbox, secret: str, private: bool) -> None:
        self._outbox = outbox
        self._secret = secret
        self._private = private
        self._stopping = threading.Event()
        self._resolvers = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="webhook-names")
        self._of_receiver: Counter[str] = Counter()

    def start(self) -> None:
        self._stopping.clear()
        threading.Thread(target=lambda: asyncio.run(self._run()), name="webhooks", daemon=True).start()

    def stop(self) -> None:
        """Take no more. Tries in progress are not waited for: a message that gets lost is sent again."""
        self._stopping.set()

    def send_due(self) -> int:
        """Send what is due. Returns the number of deliveries. Raises Unavailable if Redis does not answer."""
        return asyncio.run(self._send_due())

    async def _send_due(self) -> int:
        tries: set[asyncio.Task[bool]] = set()
        try:
            await self._take_due(tries)
        finally:
            outcomes = await asyncio.gather(*tries)
        return sum(outcomes)

    async def _take_due(self, tries: "set[asyncio.Task[bool]]") -> None:
        """Start a try for each message that is due, as long as there is room."""
        while len(tries) < AT_ONCE and not self._stopping.is_set():
            delivery = await asyncio.to_thread(self._outbox.take, LEASE_SECONDS)
            if delivery is None:
                return
            receiver = httpx.URL(delivery.url).netloc.decode(errors="replace")
            if self._of_receiver[receiver] >= OF_ONE_RECEIVER:
                await asyncio.to_thread(self._outbox.put_back, delivery.job_id, BUSY_SECONDS)
                continue
            self._of_receiver[receiver] += 1
            tries.add(asyncio.create_task(self._try(delivery, receiver)))

    async def _try(self, delivery: Delivery, receiver: str) -> bool:
        """Return whether the message was delivered."""
        try:
            outcome = await self._send(delivery)
            return await asyncio.to_thread(self._note, delivery, outcome)
        finally:
            self._of_receiver[receiver] -= 1
            if not self._of_receiver[receiver]:
                del self._of_receiver[receiver]

    def _note(self, delivery: Delivery, outcome: int | str) -> bool:
        about = {
            "job": delivery.job_id,
            "url": mask_path(delivery.url),
            "outcome": outcome,
            "attempt": delivery.attempts + 1,
        }
        if isinstance(outcome, int) and 200 <= outcome < 300:
            log.info("webhook delivered", **about)
            self._outbox.remove(delivery.job_id)
            return True
        if outcome == GONE or delivery.attempts >= len(PAUSES):
            log.error("webhook given up", **about)
            self._outbox.remove(delivery.job_id)
            return False
        pause = PAUSES[delivery.attempts] * random.uniform(0.9, 1.0)  # spreads the tries of jobs that ended together
        log.warning("webhook not delivered", again_in=round(pause), **about)
        self._outbox.postpone(delivery.job_id, pause)
        return False

    async def _send(self, delivery: Delivery) -> int | str:
        """Return the answer's status, or what went wrong."""
        body = webhook_body(delivery)
        headers = signed_headers(self._secret, f"msg_{delivery.job_id}", int(time.time()), body)
        url = httpx.URL(delivery.url)
        resolve = asyncio.get_running_loop().run_in_executor
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                address = await resolve(self._resolvers, checked_address, url, self._private)
                return await _post(url, address, headers, body)
        except (httpx.HTTPError, TimeoutError) as error:
            return type(error).__name__
        except (AddressForbidden, Unavailable) as error:
            return error.detail

    async def _run(self) -> None:
        tries: set[asyncio.Task[bool]] = set()
        while not self._stopping.is_set():
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._take_due(tries)
            except CoresetError as error:
                log.warning("cannot send webhooks", detail=error.detail)
            except Exception:
                log.exception("sending webhooks failed")
            for ended in [one for one in tries if one.done()]:
                tries.discard(ended)
                if not ended.cancelled() and (error := ended.exception()) is not None:
                    log.error("sending a webhook failed", exc_info=error)


async def _post(url: httpx.URL, address: str | None, headers: Mapping[str, str], body: bytes) -> int:
    """Post to an address that was checked, under the host's name, which may resolve to another one by now."""
    to = url if address is None else url.copy_with(host=address)
    named = {**headers, "Host": url.netloc.decode()}
    async with (
        httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client,
        client.stream("POST", to, content=body, headers=named, extensions={"sni_hostname": url.host}) as answer,
    ):
        return answer.status_code
