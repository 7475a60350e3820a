"""`python -m coreset_service`: the HTTP service. Settings are CORESET_* variables (coreset.settings)."""

import os
import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # Before all other imports: a `redis.py` or `coreset.py` of the current folder is not to run in the place of ours.
    sys.path.pop(0)
    os.environ["PYTHONSAFEPATH"] = "1"  # of processes that this one starts

import structlog
import uvicorn
from structlog.typing import FilteringBoundLogger

from coreset.access.addresses import is_loopback
from coreset.errors import CoresetError
from coreset.logs import configure
from coreset.settings import ServiceSettings
from coreset_service.app import create_app
from coreset_service.http.connections import BACKLOG, MAX_CONNECTIONS, bounded, quieten, raise_file_limit


def main() -> None:
    """Serve until a signal ends the process."""
    settings = ServiceSettings()
    configure(settings.log_format, settings.log_level)
    quieten()
    log = structlog.get_logger("service")
    try:
        app = create_app(settings)
    except CoresetError as error:
        sys.exit(f"error: {error.detail}")
    _check_exposure(settings, log, keyed=bool(app.state.context.keyring))
    # A quarter of the files is left for Redis, the storage and the connections that are being accepted.
    max_connections = min(MAX_CONNECTIONS, raise_file_limit() * 3 // 4)
    log.info("service starts", host=settings.host, port=settings.port, max_connections=max_connections)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        http=bounded(max_connections),
        loop="asyncio",
        ws="none",
        backlog=BACKLOG,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=3,  # long polls last up to a minute; they are cut off when the service stops
    )


def _check_exposure(settings: ServiceSettings, log: FilteringBoundLogger, keyed: bool) -> None:
    """Exit rather than serve the network without keys."""
    if keyed:
        return
    if is_loopback(settings.host):
        log.warning("no API keys are set; the service listens on the loopback only", host=settings.host)
    elif settings.open:
        log.warning("no API keys are set, and CORESET_OPEN is: everyone who can reach the service may use it")
    else:
        sys.exit(
            f"error: without API keys the service listens on the loopback only, not on {settings.host}. Make a key "
            "with `coreset key new --name NAME` and add its line to CORESET_API_KEYS; or, if only trusted users can "
            "reach the service, set CORESET_OPEN=true."
        )


if __name__ == "__main__":
    main()
