"""Logs by structlog: lines of JSON for machines, colours for people. RQ's and uvicorn's own logs go the same way."""

import logging
import sys
from types import TracebackType

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from coreset.redaction import redact, redact_named
from coreset.settings import LogFormat

NOISY = {"rq.worker": logging.WARNING, "rq.job": logging.WARNING, "rq.registry": logging.WARNING, "uvicorn.access": 60}


def configure(log_format: LogFormat = "auto", level: str = "info") -> None:
    """Send all logs of this process to stderr, as JSON or as plain text."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=_last(log_format), foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    for name, quiet in NOISY.items():
        logging.getLogger(name).setLevel(quiet)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log what ends the process, so that the last lines are JSON too."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        structlog.get_logger("uncaught").critical("process ends", exc_info=(kind, error, trace))


def request_id() -> str | None:
    """Return the id of the HTTP request that the work of this context goes back to, if one is bound."""
    return structlog.contextvars.get_contextvars().get("request_id")


def _last(log_format: LogFormat) -> list[Processor]:
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if log_format == "console" or (log_format == "auto" and sys.stderr.isatty()):
        # Plain: the default shows local variables, which may be secret.
        plain = structlog.dev.plain_traceback
        console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
        return [strip, _without_secrets, _Redacted(console)]
    json = structlog.processors.JSONRenderer()
    return [strip, structlog.processors.format_exc_info, _without_secrets, _Redacted(json)]


def _without_secrets(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Mask what is called like a secret, and secrets in texts."""
    return {
        name: redact_named(name, value) if isinstance(value, str | dict | list) else value
        for name, value in event.items()
    }


class _Redacted:
    """Redacts the whole line: tracebacks, and objects that the renderer made text of."""

    def __init__(self, render: Processor) -> None:
        self._render = render

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        return redact(str(self._render(logger, method, event)))
