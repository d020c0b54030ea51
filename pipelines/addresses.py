"""Which addresses the fetcher may connect to. Asked where a socket is opened, so no spelling of a URL gets around it.

`ipaddress.is_global` does not answer the question: it says yes to NAT64, 6to4, multicast, `::a.b.c.d`, fec0::/10 and,
depending on Python's version, 192.0.0.192. The lists below are the whole policy.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from curation.reasons import Reason

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

WEB_PORTS = (80, 443)

# IANA's special-purpose registries (RFC 6890 and later entries), multicast and reserved space, and one address that is
# public by its number only.
NOT_PUBLIC_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network; 0.0.0.0 reaches the machine itself on Linux
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; 100.100.100.200 is a cloud's metadata service
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's platform service, reachable from every machine there
        "169.254.0.0/16",  # link-local; 169.254.169.254 is the metadata service of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is a cloud's metadata service
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays, deprecated
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, with 255.255.255.255
    )
)
# Only 2000::/3 is global unicast (RFC 4291, 2.4). That leaves out ::/96 with loopback and IPv4-compatible addresses,
# NAT64 (64:ff9b::/96, 64:ff9b:1::/48: they carry an IPv4 address that the gateway connects to), discard-only 100::/64,
# SRv6 5f00::/16, unique local fc00::/7 with fd00:ec2::254, link-local fe80::/10, site-local fec0::/10 and ff00::/8.
GLOBAL_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
NOT_PUBLIC_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, with Teredo 2001::/32 (carries an IPv4 address) and ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries an IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)

# A redirect within an allowed network stays within the neighbourhood of the host that sent it.
NEIGHBOURHOOD_V4_BITS, NEIGHBOURHOOD_V6_BITS = 24, 64


class AddressPolicy:
    """Public unicast on the web's ports, and what the operator allows by name.

    allow_networks: CIDR blocks that need not be public, such as "127.0.0.0/8" for a crawl of one's own machine. Any
    port of them may be connected to from the link table.
    ports: for public addresses.

    A redirect is not the operator's wish but the server's. It may enter an allowed non-public network only from a host
    in that very network, only within the same /24 (IPv4) or /64 (IPv6), and only to the same port or one of `ports`. So
    somebody who allows 127.0.0.0/8 for a server on 127.0.0.1 may be redirected to 127.0.0.2, while a public host cannot
    redirect into the network at all, and neither can the server on 127.0.0.1 lead to a service on 127.66.6.6 or to the
    data base beside it: allowing a network for downloads must not turn every host in it into a way to all others.
    """

    def __init__(self, allow_networks: Iterable[str] = (), ports: Iterable[int] = WEB_PORTS) -> None:
        self.allow_networks: tuple[Network, ...] = tuple(ipaddress.ip_network(network) for network in allow_networks)
        self.ports = frozenset(ports)
        self.check = lru_cache(maxsize=1 << 14)(self._check)

    def _check(self, ip: str, port: int, redirected_from: tuple[str, int] | None = None) -> str | None:
        """None if a connection to the address may be made, else `net.blocked_address` or `net.blocked_port`.

        ip: numeric, as the socket gets it. redirected_from: (ip, port) of the host whose redirect led here.
        """
        try:
            address = unwrap(ipaddress.ip_address(ip))
        except ValueError:
            return Reason.NET_BLOCKED_ADDRESS.value  # not even an address (a zone, a path, ...)
        if is_public(address):
            return None if port in self.ports else Reason.NET_BLOCKED_PORT.value
        network = next((n for n in self.allow_networks if address in n), None)
        if network is None:
            return Reason.NET_BLOCKED_ADDRESS.value
        if redirected_from is None:
            return None
        origin, origin_port = unwrap(ipaddress.ip_address(redirected_from[0])), redirected_from[1]
        if origin not in network or not _are_neighbours(address, origin):
            return Reason.NET_BLOCKED_ADDRESS.value
        return None if port == origin_port or port in self.ports else Reason.NET_BLOCKED_PORT.value


def unwrap(address: Address) -> Address:
    """The IPv4 address inside an IPv4-mapped IPv6 address (`::ffff:a.b.c.d`), else the address itself."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_public(address: Address) -> bool:
    """Whether an (unwrapped) address is public unicast, by the lists above."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in NOT_PUBLIC_V4)
    if address.scope_id is not None:
        return False
    return address in GLOBAL_UNICAST_V6 and not any(address in network for network in NOT_PUBLIC_V6)


def _are_neighbours(a: Address, b: Address) -> bool:
    bits = NEIGHBOURHOOD_V4_BITS if a.version == 4 else NEIGHBOURHOOD_V6_BITS
    return a.version == b.version and int(a) >> (a.max_prefixlen - bits) == int(b) >> (b.max_prefixlen - bits)
