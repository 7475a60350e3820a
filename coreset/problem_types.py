"""Problem types and their error classes, for the service that writes problems and the client that reads them."""

from coreset.errors import CoresetError


def error_classes() -> dict[str, type[CoresetError]]:
    """Return every problem type and its class."""
    found: dict[str, type[CoresetError]] = {}
    waiting: list[type[CoresetError]] = [CoresetError]
    while waiting:
        cls = waiting.pop()
        found[cls.type] = cls
        waiting += cls.__subclasses__()
    return found
