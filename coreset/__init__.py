"""The contract of the coreset selection service: spec, plan, parts, selection, errors, state. Never imports torch."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coreset.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the clients when they are asked for: most modules that import the contract need no HTTP."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from coreset import client

    return getattr(client, name)
