"""Which URLs and addresses of others we call: those of the open internet alone, never anything beside ourselves.

Pure, but for the one function that resolves. A URL that somebody else chose must pass `parse_public_url`, and every
address of its name must be one that `is_public`; the connection then goes to an address that was looked at.
"""

from __future__ import annotations

import ipaddress
import re

from assistance.channels.http import Endpoint, parse_endpoint
from assistance.channels.wire import Addresses, NotConnected, Resolve, resolve
from assistance.runtime.clock import Deadline

LONGEST_URL = 2_048
#: The code with which a connection is refused because of where it would lead.
BLOCKED = "blocked_address"
_HTTPS_PORT = 443
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_LONGEST_NAME = 253
#: Names that mean something else on every network. They end where they stand: their addresses are checked as well.
_LOCAL_NAMES = frozenset({"localhost", "local", "internal", "localdomain", "lan", "arpa", "onion"})
#: What Python (3.11 at least) calls global although it leads into other networks or nowhere, or is a machine's own.
_REFUSED_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "168.63.129.16/32",  # a cloud's own services, on an address that looks public
        "169.254.0.0/16",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "240.0.0.0/4",
        "::/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)


def parse_public_url(url: str) -> Endpoint:
    """Check the form of a URL that somebody else chose.

    Raises `ValueError` with the end of a sentence ("has to begin with https://") that quotes nothing of it.
    """
    if len(url) > LONGEST_URL:
        raise ValueError(f"has more than {LONGEST_URL:,} characters")
    if not url.isascii():
        raise ValueError("may hold ASCII characters only; write an international name in its xn-- form")
    if not url.lower().startswith("https://"):
        raise ValueError("has to begin with https://")
    if "\\" in url or "@" in url.split("/", 3)[2]:
        raise ValueError("may hold no user name, no password and no backslash")
    try:
        endpoint = parse_endpoint(url)
    except ValueError:
        raise ValueError(
            "is not a URL such as https://bot.example.com/callbacks, without spaces and fragment"
        ) from None
    _check_name(endpoint.host)
    if endpoint.authority.lower() not in (endpoint.host, f"{endpoint.host}:{_HTTPS_PORT}"):
        raise ValueError(f"has to use port {_HTTPS_PORT}")
    return endpoint


def _check_name(host: str) -> None:
    labels = host.split(".")
    if len(host) > _LONGEST_NAME or len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("has to name a server by its full DNS name")
    # Resolvers read 127.1, 0x7f.1 and 2130706433 as addresses; no top-level domain begins with a digit.
    if labels[-1][0].isdigit():
        raise ValueError("has to name a server by its DNS name, not by an address")
    if labels[-1] in _LOCAL_NAMES:
        raise ValueError("names a server that only exists on this network")


def is_public(address: str) -> bool:
    """Whether an address, as text, belongs to the open internet."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    parsed = mapped or parsed
    if not parsed.is_global or parsed.is_multicast:
        return False
    return not any(parsed in network for network in _REFUSED_NETWORKS if network.version == parsed.version)


def only_public(host: str, port: int, deadline: Deadline, *, ask: Resolve = resolve) -> Addresses:
    """The addresses of a name, every one of which is public; a connection goes to one of them and nowhere else.

    Raises `NotConnected`, with the code `BLOCKED` when one is not; the address itself is told to nobody.
    """
    addresses = ask(host, port, deadline)
    if not addresses or not all(is_public(str(address[4][0])) for address in addresses):
        raise NotConnected(BLOCKED, f"{host} leads to an address that callbacks may not go to")
    return addresses
