"""Where outbound requests may go: one strict URL parser, and the address rules against SSRF (decision 19).

The parser that checks a URL is the parser that connects, so the two cannot disagree about its host.
Names are judged by their addresses: the client resolves once, asks `check_address` about every answer
and connects to exactly an address that was checked, so a DNS server that changes its mind gains nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import unquote, urlsplit

from routeiq.exceptions import EgressDenied

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_DEFAULT_PORTS = {"http": 80, "https": 443, "http+unix": 0}
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\#]")
_HOST = re.compile(r"[a-z0-9_.-]+")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")

# IANA's special-purpose registries (RFC 6890 and later), as data: the standard library's is_private
# changed its mind between patch releases. Of IPv6 only 2000::/3 is global unicast; the rest is denied.
# Metadata comes first, it is the strictest: AWS, GCP, Azure, OpenStack and others; task roles of ECS and
# EKS; Azure's host; Alibaba; Oracle; Scaleway; Tencent.
_METADATA = "cloud metadata"
_RULES: tuple[tuple[str, str], ...] = (
    (
        _METADATA,
        "169.254.169.254 fd00:ec2::254 fd20:ce::254 169.254.170.2 169.254.170.23 fd00:ec2::23 "
        "168.63.129.16 100.100.100.200 192.0.0.192 169.254.42.42 fd00:42::42 169.254.0.23",
    ),
    ("unspecified", "0.0.0.0/8 ::/128"),
    ("loopback", "127.0.0.0/8 ::1/128"),
    ("private", "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 fc00::/7 64:ff9b:1::/48"),
    ("link-local", "169.254.0.0/16 fe80::/10"),
    ("multicast", "224.0.0.0/4 ff00::/8"),
    (
        "reserved",
        "192.0.0.0/24 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.175.48.0/24 "
        "198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4 2001::/23 2001:db8::/32 3fff::/20",
    ),
)
_NETWORKS: tuple[tuple[str, Network], ...] = tuple(
    (rule, ip_network(cidr)) for rule, cidrs in _RULES for cidr in cidrs.split()
)
_GLOBAL_V6 = IPv6Network("2000::/3")
# Prefixes under which an IPv4 address is the last 32 bits: mapped, translated, compatible, NAT64.
_EMBEDDED_V4 = tuple(
    map(IPv6Network, ("::ffff:0:0/96", "::ffff:0:0:0/96", "::/96", "64:ff9b::/96"))
)
_LIFTED_BY_ALLOW_PRIVATE = frozenset({"loopback", "private"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """A URL as it will be connected to: host in lower case ASCII, without brackets or trailing dot.

    For `http+unix` the host is the path of the socket. `target` is path and query.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def is_literal(self) -> bool:
        """Whether the host is an IP address: `split_url` lets no other name end in a number."""
        return (
            ":" in self.host or _NUMERIC_LABEL.fullmatch(self.host.rpartition(".")[2]) is not None
        )

    @property
    def authority(self) -> str:
        """What goes into the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.scheme == "http+unix":
            return "localhost"
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def split_url(url: str) -> Url:
    """Parse `url` strictly.

    Raises:
        ValueError: the URL could be read in two ways, or would inject into a request. The message does
            not repeat the URL, which may hold a secret.
    """
    if _FORBIDDEN.search(url):
        raise ValueError("URL has a control character, space, backslash or fragment: remove it")
    try:
        parts = urlsplit(url)
    except ValueError:  # its message may repeat a password
        raise ValueError("URL host is not a name or address") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f"URL scheme {parts.scheme!r} is not known: use http or https")
    if "@" in parts.netloc:
        raise ValueError("URL has user information before its host: use a header instead")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not target.isascii():
        raise ValueError("URL path is not ASCII: percent-encode it")
    if parts.scheme == "http+unix":
        return Url(scheme=parts.scheme, host=unquote(parts.netloc), port=0, target=target)
    port = _DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    if port == 0:
        raise ValueError("URL port 0 cannot be connected to")
    return Url(scheme=parts.scheme, host=_normal_host(parts.hostname), port=port, target=target)


def _normal_host(host: str | None) -> str:
    if not host:
        raise ValueError("URL has no host")
    if "%" in host:
        raise ValueError(f"URL host {host!r} is percent-encoded or has a zone: write it plainly")
    if ":" in host:
        return str(IPv6Address(host))
    try:
        name = host.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError as error:
        raise ValueError(f"URL host {host!r} is not a name") from error
    if not _HOST.fullmatch(name):
        raise ValueError(f"URL host {host!r} is not a name")
    if _NUMERIC_LABEL.fullmatch(name.rpartition(".")[2]):
        try:
            IPv4Address(name)
        except ValueError as error:
            message = f"URL host {host!r} is not a plain IPv4 address: write four decimal numbers"
            raise ValueError(message) from error
    return name


def _embedded(address: Address) -> Iterator[Address]:
    """`address`, then every IPv4 address that a translator on the way would turn it into."""
    yield address
    if isinstance(address, IPv6Address):
        if int(address) > 1 and any(address in network for network in _EMBEDDED_V4):
            yield IPv4Address(int(address) & 0xFFFFFFFF)
        if address.sixtofour is not None:
            yield address.sixtofour
        if address.teredo is not None:
            yield from address.teredo


def _rule(address: Address) -> str | None:
    """The rule that denies `address` by default, if any."""
    for rule, network in _NETWORKS:
        if address in network:
            return rule
    if isinstance(address, IPv4Address) or address in _GLOBAL_V6:
        return None
    # A pure carrier of an IPv4 address is as good as the address it carries.
    return None if any(address in network for network in _EMBEDDED_V4) else "reserved"


class AddressRules:
    """Decides which URLs and addresses may be called. Security: everything that is not clear is denied.

    Denied unless listed: loopback, link-local, private (RFC 1918, unique local, shared 100.64/10),
    multicast, unspecified and reserved ranges, also inside IPv4-mapped, NAT64, 6to4 and Teredo addresses.

    `allow_private` lifts only loopback and private. `hosts` (globs over the name, such as
    `*.corp.example`, or an address) lifts every rule but metadata for the addresses of these names;
    `cidrs` does so for addresses. The cloud metadata addresses are stricter: a glob, a name that resolves
    to one, or a network around one never opens them; only that very address in `hosts` or `cidrs` does.

    Raises:
        ValueError: a CIDR cannot be read.
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        hosts: tuple[str, ...] = (),
        cidrs: tuple[str, ...] = (),
    ) -> None:
        self._lifted = _LIFTED_BY_ALLOW_PRIVATE if allow_private else frozenset()
        self._hosts = tuple(host.lower().strip("[]").removesuffix(".") for host in hosts)
        self._networks = tuple(ip_network(cidr, strict=False) for cidr in cidrs)
        self._named = {str(net[0]) for net in self._networks if net.num_addresses == 1}
        self._named.update(self._hosts)

    def check_url(self, url: str) -> None:
        """Refuse what is wrong with the URL itself, whatever its name resolves to.

        Ports are 80, 443 or from 1024 up, so that no mail or remote shell server is spoken to.

        Raises:
            EgressDenied: names the reason, not the URL.
        """
        try:
            parts = split_url(url)
        except ValueError as error:
            raise EgressDenied(f"outbound URL denied: {error}") from error
        if parts.scheme not in ("http", "https"):
            raise EgressDenied(f"outbound URL denied: scheme {parts.scheme!r} is not http or https")
        if parts.port < 1024 and parts.port not in (80, 443):
            raise EgressDenied(
                f"outbound URL denied: port {parts.port} is neither 80, 443 nor above 1023"
            )
        if parts.is_literal:
            self.check_address(parts.host, parts.host)

    def check_address(self, host: str, ip: str) -> None:
        """Refuse to connect to `ip`, an address of `host` (as `split_url` gives it).

        Raises:
            EgressDenied: names the address and the rule.
        """
        for address in _embedded(ip_address(ip)):
            rule = _rule(address)
            if rule is None or rule in self._lifted:
                continue
            metadata_opened = rule == _METADATA and str(address) in self._named
            if not metadata_opened and (rule == _METADATA or not self._listed(host, address)):
                raise EgressDenied(
                    f"outbound address {ip} of {host!r} denied: {rule} address; if it is meant, "
                    "add it to ROUTEIQ_SSRF_HOST_ALLOWLIST or ROUTEIQ_SSRF_CIDR_ALLOWLIST"
                )

    def _listed(self, host: str, address: Address) -> bool:
        return any(address in network for network in self._networks) or any(
            fnmatchcase(host, pattern) for pattern in self._hosts
        )
