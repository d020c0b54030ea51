import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pycurl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.addresses import NOT_PUBLIC_V4, NOT_PUBLIC_V6, AddressPolicy
from pipelines.fetch import Fetcher
from pipelines.fetch_options import FetchOptions
from pipelines.transfer import Transfer
from tests.pipelines import loopback

PUBLIC = ["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.216.34", "100.63.255.255", "100.128.0.0"]
PUBLIC += ["126.255.255.255", "128.0.0.1", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0"]
PUBLIC += [
    "191.255.255.255",
    "192.0.1.0",
    "192.0.3.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
]
PUBLIC += ["223.255.255.255", "::ffff:8.8.8.8", "2001:4860:4860::8888", "2606:4700::1111", "2a00:1450::1", "2003::1"]
FORBIDDEN = [
    "0.0.0.0",
    "10.1.2.3",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
]
FORBIDDEN += ["172.16.0.1", "172.31.255.255", "192.0.0.192", "192.88.99.1", "192.168.0.1", "198.18.0.1", "224.0.0.251"]
FORBIDDEN += ["239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::1", "::7f00:1", "::a9fe:a9fe"]
FORBIDDEN += ["::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808"]
FORBIDDEN += ["64:ff9b:1::1", "100::1", "100:0:0:1::1", "2001::1", "2001:0:53aa:64c::1", "2001:2::1", "2001:10::1"]
FORBIDDEN += ["2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "2620:4f:8000::1", "3fff::1", "4000::1"]
FORBIDDEN += ["5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%1", "febf::1", "fec0::1", "ff02::1", "ff0e::1"]
FORBIDDEN += ["", "localhost", "/run/docker.sock", "127.1", "0x7f000001", "1.1.1.1%1"]


@pytest.mark.parametrize("ip", PUBLIC)
def test_public(ip: str) -> None:
    policy = AddressPolicy()
    assert policy.check(ip, 443) is None
    assert policy.check(ip, 22) == "net.blocked_port"
    assert AddressPolicy(ports=(22,)).check(ip, 443) == "net.blocked_port"
    assert policy.check(ip, 80, ("93.184.216.34", 80)) is None


@pytest.mark.parametrize("ip", FORBIDDEN)
def test_forbidden(ip: str) -> None:
    assert AddressPolicy().check(ip, 80) == "net.blocked_address"
    assert AddressPolicy(["203.0.113.0/24"]).check(ip, 80, ("203.0.113.1", 80)) == "net.blocked_address"


def test_ends_of_each_network() -> None:
    policy = AddressPolicy()
    for network in (*NOT_PUBLIC_V4, *NOT_PUBLIC_V6):
        assert policy.check(str(network[0]), 80) == "net.blocked_address"
        assert policy.check(str(network[-1]), 80) == "net.blocked_address"


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_whatever_python_calls_private_is_forbidden(address: Any) -> None:
    if AddressPolicy().check(str(address), 80) is None:
        inner = getattr(address, "ipv4_mapped", None) or address
        assert inner.is_global
        assert not inner.is_multicast
        assert not inner.is_reserved


def test_allowed_networks() -> None:
    policy = AddressPolicy(["127.0.0.0/8", "fd00::/8"])
    assert policy.check("127.0.0.1", 8070) is None
    assert policy.check("127.66.6.6", 8070) is None  # the link table may name it
    assert policy.check("::ffff:127.0.0.1", 8070) is None
    assert policy.check("fd00::1", 8070) is None
    assert policy.check("10.0.0.1", 8070) == "net.blocked_address"
    assert policy.check("0.0.0.0", 8070) == "net.blocked_address"
    with pytest.raises(ValueError, match="host bits"):
        AddressPolicy(["127.0.0.1/8"])


@pytest.mark.parametrize(
    ("origin", "target", "port", "reason"),
    [
        ("127.0.0.1", "127.0.0.2", 8070, None),
        ("127.0.0.1", "127.0.0.1", 443, None),
        ("127.0.0.1", "93.184.216.34", 443, None),
        ("::ffff:127.0.0.1", "127.0.0.9", 8070, None),
        ("fd00::1", "fd00::2", 8070, None),
        ("127.0.0.1", "127.66.6.6", 8070, "net.blocked_address"),
        ("127.0.0.1", "127.0.1.1", 8070, "net.blocked_address"),
        ("127.0.0.1", "::ffff:127.66.6.6", 8070, "net.blocked_address"),
        ("127.0.0.1", "127.0.0.1", 6379, "net.blocked_port"),
        ("127.0.0.1", "fd00::1", 8070, "net.blocked_address"),
        ("93.184.216.34", "127.0.0.1", 80, "net.blocked_address"),
        ("93.184.216.34", "fd00::1", 80, "net.blocked_address"),
        ("fd00::1", "fd00:0:0:1::1", 8070, "net.blocked_address"),
        ("fd00::1", "127.0.0.1", 8070, "net.blocked_address"),
    ],
)
def test_redirects_into_allowed_networks(origin: str, target: str, port: int, reason: str | None) -> None:
    assert AddressPolicy(["127.0.0.0/8", "fd00::/8"]).check(target, port, (origin, 8070)) == reason


# Probes: every spelling, through the whole fetcher, with somebody listening


def spellings(ip: str) -> list[str]:
    """Hosts (and authorities) that some parser or resolver takes for this IPv4 address."""
    a, b, c, d = (int(part) for part in ip.split("."))
    number = int(ipaddress.IPv4Address(ip))
    low, high = number & 0xFFFF, number >> 16
    wide = ip.translate(str.maketrans("0123456789", "０１２３４５６７８９"))
    return [
        ip,
        f"{ip}.",
        f"{number}",
        f"0x{number:x}",
        f"0X{number:X}",
        f"0{number:o}",
        f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"0{a:o}.{b}.{c}.{d}",
        f"{a}.{number & 0xFFFFFF}",
        f"{a}.{b}.{low}",
        f"0x{a:x}.{b}.0{low:o}",
        wide,
        ip.replace(".", "。"),
        ip.replace(".", "．"),
        "".join(f"%{ord(ch):02x}" for ch in ip),
        f"{a}.{b}\t.{c}.{d}",
        f"[::ffff:{ip}]",
        f"[::ffff:{high:x}:{low:x}]",
        f"[0:0:0:0:0:FFFF:{high:X}:{low:X}]",
        f"[::{ip}]",
        f"[64:ff9b::{ip}]",
        f"[2002:{high:x}:{low:x}::]",
        f"example.com@{ip}",
        f"example.com:80@{ip}",
        f"{ip}%00.example.com",
    ]


TARGETS = ["127.0.0.1", "127.66.6.6", "0.0.0.0", "169.254.169.254", "10.0.0.1", "192.168.1.1", "100.100.100.200"]
TARGETS += ["192.0.0.192", "224.0.0.1"]
NAMES = ["localhost", "LOCALHOST", "localhost.", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[fe80::1]", "[fd00:ec2::254]"]
NAMES += ["[ff02::1]", "[::1%25lo]"]


@pytest.fixture
def canary() -> Iterator[Any]:
    """Listens on every address of this machine, IPv4 and IPv6."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with loopback.Server("0.0.0.0", port) as four:
        four.routes["/"] = lambda r: r.reply(b"secret")
        if not socket.has_ipv6:
            yield four
            return
        with loopback.Server("::1", port) as six:
            six.routes["/"] = four.routes["/"]
            four.six = six
            yield four


def test_probes_in_every_spelling_connect_to_nothing(canary: Any) -> None:
    authorities = [spelling for target in TARGETS for spelling in spellings(target)] + NAMES
    urls = [f"http://{authority}:{canary.port}/" for authority in authorities]
    urls += [f"http:\\\\127.0.0.1:{canary.port}/", f"http:127.0.0.1:{canary.port}/", f"//127.0.0.1:{canary.port}/"]
    assert len(urls) >= 150
    with Fetcher(FetchOptions(retries=0, connect_timeout_s=2)) as fetcher:
        outs = fetcher.fetch_many(urls)
    allowed = {"net.blocked_address", "url.unparsable", "url.userinfo", "url.bad_host", "net.dns_nxdomain"}
    wrong = {out.url: out.reason for out in outs if out.reason not in allowed}
    assert not wrong
    assert sum(out.reason == "net.blocked_address" for out in outs) > 150
    assert canary.num_connections + canary.six.num_connections == 0
    with Fetcher(FetchOptions(allow_networks=("127.0.0.0/8",))) as fetcher:  # the canary does sing
        assert fetcher.fetch_many([urls[0]])[0].body == b"secret"
    assert canary.num_connections == 1


def test_probes_as_redirects_connect_to_nothing(canary: Any) -> None:
    """The same spellings as redirects from an allowed server in the same network."""
    authorities = [spelling for target in TARGETS[1:] for spelling in spellings(target)] + NAMES[3:]
    with loopback.Server("127.0.0.1") as server:
        for number, authority in enumerate(authorities):
            location = f"http://{authority}:{canary.port}/".encode().decode("latin-1")
            raw = f"HTTP/1.1 302 F\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
            server.routes[f"/{number}"] = lambda r, raw=raw: r.send(raw)
        options = FetchOptions(
            allow_networks=("127.0.0.0/8",), retries=0, connect_timeout_s=2, requests_per_second_per_host=1e6
        )
        with Fetcher(options) as fetcher:
            outs = fetcher.fetch_many([server.url(f"/{number}") for number in range(len(authorities))])
    assert len(outs) > 150
    allowed = {"net.blocked_address", "http.redirect_blocked", "net.dns_nxdomain"}
    assert not {out.final_url: out.reason for out in outs if out.reason not in allowed}
    assert canary.num_connections + canary.six.num_connections == 0


MORE = ["0.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.254", "127.0.0.2", "127.0.1.1", "127.255.255.254"]
MORE += ["168.63.129.16", "169.254.0.1", "169.254.170.2", "172.16.0.1", "172.17.0.1", "172.31.255.254", "192.0.0.1"]
MORE += ["192.0.0.170", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.0.1", "192.168.255.254"]
MORE += ["192.175.48.1", "198.18.0.1", "198.19.255.254", "198.51.100.1", "203.0.113.1", "224.0.0.251"]
MORE += ["239.255.255.250", "240.0.0.1", "255.255.255.254", "255.255.255.255", "10.96.0.1", "10.0.2.2", "172.20.10.1"]
MORE += ["192.168.49.2", "192.168.65.1", "100.88.0.1", "169.254.169.123", "169.254.169.253", "127.0.0.53"]


@pytest.mark.parametrize("consent", ["obey", "ignore"])
def test_the_whole_table_of_probes(canary: Any, consent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 1,200 spellings of forbidden addresses, each as a link and as a redirect: no socket is opened for any.

    Not only this machine's addresses count: every socket that libcurl is given is recorded with where it leads.
    """
    opened: list[tuple[str, int]] = []
    open_socket = Transfer._open_socket

    def recorded(self: Transfer, purpose: int, address: Any) -> Any:
        given = open_socket(self, purpose, address)
        if given != pycurl.SOCKET_BAD:
            opened.append(address[3][:2])
        return given

    monkeypatch.setattr(Transfer, "_open_socket", recorded)
    authorities = [spelling for target in TARGETS + MORE for spelling in spellings(target)] + NAMES
    literals = [f"[{ip}]" for ip in FORBIDDEN if ":" in ip and "%" not in ip]
    # a redirect may lead to the very host that it came from, so 127.0.0.1's own spellings are no probe of redirects
    own = {*spellings("127.0.0.1"), *spellings("127.0.0.2"), *NAMES[:3]}
    authorities += literals
    assert len(authorities) > 1200
    options = FetchOptions(
        retries=0, connect_timeout_s=2, requests_per_second_per_host=1e6, circuit_failures=10**6,
        robots=consent, ai_txt=consent, tdmrep=consent,
    )  # fmt: skip
    allowed = {"net.blocked_address", "url.unparsable", "url.userinfo", "url.bad_host", "net.dns_nxdomain"}
    with Fetcher(options) as fetcher:
        outs = fetcher.fetch_many([f"http://{authority}:{canary.port}/" for authority in authorities])
    assert not {out.url: out.reason for out in outs if out.reason not in allowed}
    assert opened == []
    probes = [authority for authority in authorities if authority not in own]
    with loopback.Server("127.0.0.1") as server:
        for number, authority in enumerate(probes):
            location = f"http://{authority}:{canary.port}/".encode().decode("latin-1")
            raw = f"HTTP/1.1 302 F\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
            server.routes[f"/{number}"] = lambda r, raw=raw: r.send(raw)
        with Fetcher(options.changed(allow_networks=("127.0.0.1/32", "127.66.0.0/16"))) as fetcher:
            outs = fetcher.fetch_many([server.url(f"/{number}") for number in range(len(probes))])
            assert not {
                out.final_url: out.reason for out in outs if out.reason not in allowed | {"http.redirect_blocked"}
            }
            assert {*opened} == {("127.0.0.1", server.port)}
    assert canary.num_connections + canary.six.num_connections == 0


def test_names_are_judged_by_the_address_they_lead_to(canary: Any) -> None:
    """A name that leads to a forbidden address, and one that leads to an allowed and a forbidden one."""
    names = [f"rebind.example:{canary.port}:127.66.6.6", f"split.example:{canary.port}:127.66.6.6,127.0.0.1"]
    with Fetcher(FetchOptions(allow_networks=("127.0.0.1/32",), retries=0, max_connections=2)) as fetcher:
        for transfer in [fetcher._transfer(), fetcher._transfer()]:
            transfer.curl.setopt(pycurl.RESOLVE, names)
            fetcher._idle.append(transfer)
        urls = [f"http://rebind.example:{canary.port}/", f"http://split.example:{canary.port}/"]
        rebind, split = fetcher.fetch_many(urls)
    assert rebind.reason == "net.blocked_address"
    assert split.body == b"secret"
    assert {request.local_ip for request in canary.seen} == {"127.0.0.1"}
    assert {request.path for request in canary.seen} == {"/robots.txt", "/ai.txt", "/.well-known/tdmrep.json", "/"}
    assert canary.num_connections == 1
