"""`python -m service`: serve HTTP until told to stop. Settings are CORESET_* variables (coreset.settings)."""

import ipaddress

import structlog
import uvicorn

from coreset.logs import configure
from coreset.settings import ServiceSettings
from service.app import create_app


def main() -> None:
    settings = ServiceSettings()
    configure(settings.log_format, settings.log_level)
    log = structlog.get_logger("service")
    if not _loopback(settings.host):
        log.warning("the service has no API keys yet: whoever reaches it may use it", host=settings.host)
    log.info("service starts", host=settings.host, port=settings.port)
    app = create_app(settings)
    # Long polls last up to a minute; they are cut off when the service stops.
    uvicorn.run(app, host=settings.host, port=settings.port, log_config=None, timeout_graceful_shutdown=3)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    main()
