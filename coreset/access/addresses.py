"""Which network addresses a caller may send us to: public ones, never this machine, its network or its cloud's own.

A name is no proof: it may resolve to anything, and to something else the next time. So a name is resolved once, all its
addresses are checked, and the connection goes to an address that was checked.
"""

import ipaddress
import socket
from collections.abc import Iterable

from coreset.errors import AddressForbidden, Unavailable

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses that a gateway turns into the IPv4 address in their last 32 bits."""

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the public internet; an IPv6 one counts as the IPv4 one that it carries.

    Raises:
        ValueError: it is no IP address.
    """
    parsed = ipaddress.ip_address(address)
    return all(one.is_global and not one.is_multicast for one in [parsed, *_carried(parsed)])


def _carried(address: IPAddress) -> list[IPAddress]:
    if not isinstance(address, ipaddress.IPv6Address):
        return []
    found: list[IPAddress | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in found if one is not None]


def is_loopback(host: str) -> bool:
    """Tell whether who listens on a host is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def public_addresses(host: str, port: int) -> list[str]:
    """Resolve a host and return its addresses, if all of them are public. Connect to one of these, not to the name.

    Raises:
        AddressForbidden: one of them is not.
        Unavailable: the name cannot be resolved.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"the host {host} cannot be found", host=host) from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    require_public(host, addresses)
    return addresses


def require_public(host: str, addresses: Iterable[str]) -> None:
    """Raise AddressForbidden if one of a host's addresses is not public. It is not named: a caller could scan by it."""
    if not all(is_public(address) for address in addresses):
        raise AddressForbidden(f"{host} is a host of a private network, which callers cannot send us to", host=host)
