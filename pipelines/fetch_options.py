"""What a fetch may cost, and whom it may bother. Part of a recipe, so every field has a default and a reason."""

import hashlib
import importlib.util
import ipaddress
import ssl
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator

from curation.step import Step
from pipelines import optout, site_rules
from pipelines.addresses import WEB_PORTS
from pipelines.deny import DenyList, HashList, denied_domain, denied_url

Consent = Literal["obey", "ignore"]


class FetchOptions(Step):
    """Limits for each link and manners towards each host. Times in seconds, sizes in bytes."""

    not_in_key: ClassVar[frozenset[str]] = frozenset(
        {"max_connections", "max_connections_per_host", "requests_per_second_per_host", "max_host_s"}
        | {"memory_cap_bytes"}
        | {"circuit_failures", "circuit_pause_s", "max_crawl_delay_s", "deny_lists", "known_bad_hashes"}
    )
    """How fast the links are fetched is not what comes of them; of the lists the content counts."""

    user_agent: str = Field(default="tamis/0.1", pattern=r"^[\x21-\x7e]+(?: [\x21-\x7e]+)*$", max_length=200)
    """Who asks. The name before the slash is the one under which a site may address this crawler alone."""
    contact_url: str = Field(default="", pattern=r"^(https?://[\x21-\x7e]+)?$", max_length=200)
    """A page that says who crawls, why, and how to stop it; sent as `(+URL)` after the name. Set it before you crawl
    other people's servers."""
    max_bytes: int = Field(default=20_000_000, gt=0)
    """Largest body. A larger one is a failed row (`dl.too_large`), never a cut one."""
    memory_cap_bytes: int = Field(default=64_000_000, gt=0)
    """A larger body goes through a temporary file, so that memory has a bound where `max_bytes` is large (video)."""
    connect_timeout_s: float = Field(default=5.0, gt=0)
    """For the name, the connection and TLS together."""
    first_byte_timeout_s: float = Field(default=10.0, gt=0)
    """From the request to the first byte of the answer."""
    total_timeout_s: float = Field(default=60.0, gt=0)
    """For one attempt with all its redirects, without the time spent waiting for a free connection."""
    min_rate_bytes_s: int = Field(default=1_000, ge=0)
    """Fewer than this, averaged over `min_rate_window_s`, is a drip (`dl.too_slow`)."""
    min_rate_window_s: float = Field(default=10.0, gt=0)
    """Window of the rate; the first one starts with the answer's first byte."""
    max_redirects: int = Field(default=5, ge=0)
    """Hops of one chain."""
    max_header_bytes: int = Field(default=65_536, gt=0)
    """All header lines of one answer together, those of 1xx answers included."""
    max_connections: int = Field(default=256, gt=0)
    """Requests in flight of one fetcher; fewer where their bodies would fill its memory. Hosts that hang hold one each
    until their time is up, so there should be many more than the processors can keep busy."""
    max_connections_per_host: int = Field(default=16, gt=0)
    """Requests in flight to one registrable domain (or one address, where a link names an address)."""
    retries: int = Field(default=2, ge=0)
    """Further attempts after a transient failure."""
    backoff_s: float = Field(default=0.5, gt=0)
    """Pause before the first of them; doubled each time, times 0.5-1.5 drawn from the URL, so the same in every run."""
    max_retry_after_s: float = Field(default=30.0, ge=0)
    """Longest `Retry-After` that is waited for. A longer one ends the row as `http.rate_limited`, for a later run."""
    requests_per_second_per_host: float = Field(default=50.0, gt=0)
    """Requests to one registrable domain, those for robots.txt included; shared by the workers of a run."""
    max_host_s: float = Field(default=1800.0, gt=0)
    """Longest that the links of one domain may take in one part, from their first request. The rest ends as
    `http.rate_limited`, for a later run, so that a slow host or a long Crawl-delay never holds a part."""
    circuit_failures: int = Field(default=10, gt=0)
    """Links in a row with a transient failure after which an origin rests."""
    circuit_pause_s: float = Field(default=10.0, gt=0)
    """For how long; its links wait. Then one request tries again. Where it fails too, the origin is down for as long
    once more: links that come in that time end without a request (`net.host_circuit_open`), for a later run."""
    robots: Consent = "obey"
    """robots.txt with its Content-Signal (`ai-train`) and Content-Usage (`train-ai`) lines. Obeyed, a host without one
    (any 4xx) allows everything, and one that cannot say (5xx, no answer) is not asked for more in this run."""
    ai_txt: Consent = "obey"
    """Spawning's /ai.txt; where it cannot be had it says nothing."""
    tdmrep: Consent = "obey"
    """/.well-known/tdmrep.json; where it cannot be had it says nothing. Headers are obeyed always."""
    max_crawl_delay_s: float = Field(default=10.0, ge=0)
    """Longest Crawl-delay that is kept; a longer one is taken as this."""
    deny_domains: tuple[str, ...] = ()
    """Domains that are never asked, with all their subdomains (`policy.domain_denied`)."""
    deny_urls: tuple[str, ...] = ()
    """URLs that are never asked for; with a `*` at the end, all that begin so."""
    deny_lists: tuple[Path, ...] = ()
    """Files of such domains and URLs, one a line, relative to the recipe."""
    known_bad_hashes: tuple[Path, ...] = ()
    """Files of MD5, SHA-1 or SHA-256 digests, one a line, relative to the recipe. Bytes that are on one are not kept
    (`policy.known_bad_hash`). A hook: such lists are for those who may lawfully hold them."""
    allow_networks: tuple[str, ...] = ()
    """CIDR blocks that may be connected to although they are not public, such as `127.0.0.0/8`."""
    ports: tuple[int, ...] = WEB_PORTS
    """Ports of public addresses that may be connected to."""

    @field_validator("allow_networks")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_network(network)) for network in networks)

    @field_validator("ports")
    @classmethod
    def _are_ports(cls, ports: tuple[int, ...]) -> tuple[int, ...]:
        wrong = [port for port in ports if not 0 < port < 65536]
        if wrong:
            raise ValueError(f"no port numbers: {wrong}")
        return ports

    @field_validator("deny_domains")
    @classmethod
    def _are_domains(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(denied_domain(entry) for entry in entries)

    @field_validator("deny_urls")
    @classmethod
    def _are_urls(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(denied_url(entry) for entry in entries)

    def with_lists(self, folder: Path) -> Self:
        """With the paths of the lists, which are relative to `folder`, absolute.

        Raises OSError or ValueError naming the file where one cannot be read as what it should be.
        """
        found = {name: tuple((folder / each).absolute() for each in getattr(self, name))
                 for name in ("deny_lists", "known_bad_hashes")}  # fmt: skip
        DenyList(files=found["deny_lists"])
        HashList(found["known_bad_hashes"])
        return self.changed(**found)

    def key_extras(self) -> dict[str, object]:
        """The rules that read consent, and the content of the lists."""
        lists = {"deny_lists": self.deny_lists, "known_bad_hashes": self.known_bad_hashes}
        content = {
            name: [hashlib.sha256(path.read_bytes()).hexdigest() for path in each] for name, each in lists.items()
        }
        return {**content, "site_rules": site_rules.RULES_VERSION, "optout": optout.RULES_VERSION}

    @property
    def user_agent_header(self) -> str:
        """The User-Agent header's value."""
        return f"{self.user_agent} (+{self.contact_url})" if self.contact_url else self.user_agent

    @property
    def user_agent_token(self) -> str:
        """The name by which X-Robots-Tag may address this crawler: what stands before the first slash or blank."""
        return self.user_agent.partition("/")[0].partition(" ")[0]


def certificate_bundle() -> str:
    """Path of the file with the trusted authorities: OpenSSL's default (or SSL_CERT_FILE), else certifi's.

    Named because a wheel's libcurl looks where its own build machine had them. Errors: RuntimeError if there is none.
    """
    default = ssl.get_default_verify_paths().cafile
    if default is not None and Path(default).is_file():
        return default
    spec = importlib.util.find_spec("certifi")
    if spec is not None and spec.origin is not None:
        bundle = Path(spec.origin).with_name("cacert.pem")
        if bundle.is_file():
            return str(bundle)
    raise RuntimeError("no certificate bundle: install ca-certificates or certifi, or set SSL_CERT_FILE")
