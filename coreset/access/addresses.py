"""Network addresses that callers may send us to: public ones, not this machine, its network or its cloud's services.

A name is no proof: it may resolve to anything, and to something else the next time. So a name is resolved once, all its
addresses are checked, and the connection goes to an address that was checked.
"""

import ipaddress
import socket
from collections.abc import Iterable

from coreset.errors import AddressForbidden, Unavailable

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses that a gateway translates to the IPv4 address in their last 32 bits."""

_DENIED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's services for its machines, on an address that counts as public
        "192.0.0.0/24",  # special purposes, among them Oracle's services for its machines
        "192.88.99.0/24",  # relays of 6to4
        "::/96",  # IPv4-compatible: some stacks connect to the IPv4 address
        "::ffff:0:0:0/96",  # IPv4-translated
        "64:ff9b:1::/48",  # translation within one network, to its own addresses
        "100::/64",  # discarded
        "5f00::/16",  # segment routing
        "fec0::/10",  # site-local
    )
)
"""Networks that are not the internet, whatever the running Python counts as global."""

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: str) -> bool:
    """Return whether an IP address is of the public internet; an IPv6 one counts as the IPv4 one that it carries.

    Raises:
        ValueError: not an IP address.
    """
    parsed = ipaddress.ip_address(address)
    return all(_is_global(one) for one in [parsed, *_carried(parsed)])


def _is_global(address: IPAddress) -> bool:
    denied = any(address in network for network in _DENIED)
    return address.is_global and not address.is_multicast and not denied


def _carried(address: IPAddress) -> list[IPAddress]:
    if not isinstance(address, ipaddress.IPv6Address):
        return []
    found: list[IPAddress | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in found if one is not None]


def is_loopback(host: str) -> bool:
    """Return whether a server on this host is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def public_addresses(host: str, port: int) -> list[str]:
    """Resolve a host and return its addresses, if all of them are public. Connect to one of these, not to the name.

    Raises:
        AddressForbidden: one of them is not public.
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
    """Raise AddressForbidden if one of a host's addresses is not public. It is not named, since that helps scanning."""
    if not all(is_public(address) for address in addresses):
        raise AddressForbidden(
            f"{host} is a host of a private network, to which nothing is sent for callers; give a public host",
            host=host,
        )
