"""Which addresses are this machine's own, and which belong together."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether a host as it is written in a setting, or the address of a peer, is this machine and nobody else.

    A name other than localhost is not: what it stands for can change.
    """
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host.lower() == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def names_loopback(authority: str) -> bool:
    """Whether a `Host` header, with or without a port, names this machine as only this machine itself can do."""
    try:
        host = urlsplit(f"//{authority}").hostname
    except ValueError:
        return False
    return host is not None and is_loopback(host)


def network_of(address: str) -> str:
    """The address; of an IPv6 address the half that names its network, as the other half is its owner's to choose."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
