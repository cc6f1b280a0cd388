from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routeiq.exceptions import EgressDenied
from routeiq.providers.egress import AddressRules, split_url

STRICT = AddressRules()
PRIVATE = AddressRules(allow_private=True)

DENIED = [
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("::1", "loopback"),
    ("0.0.0.0", "unspecified"),
    ("::", "unspecified"),
    ("10.0.0.5", "private"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.168.1.1", "private"),
    ("100.64.0.1", "private"),
    ("100.127.255.255", "private"),
    ("fc00::1", "private"),
    ("fd12:3456::1", "private"),
    ("169.254.1.1", "link-local"),
    ("fe80::1", "link-local"),
    ("224.0.0.1", "multicast"),
    ("ff02::1", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("192.0.2.1", "reserved"),
    ("198.18.0.1", "reserved"),
    ("2001:db8::1", "reserved"),
    ("fec0::1", "reserved"),
    ("100::1", "reserved"),
    ("::ffff:127.0.0.1", "loopback"),
    ("::ffff:10.1.2.3", "private"),
    ("::10.1.2.3", "private"),
    ("::ffff:0:10.1.2.3", "private"),
    ("64:ff9b::10.1.2.3", "private"),
    ("64:ff9b:1::1", "private"),
    ("2002:0a01:0203::1", "private"),  # 6to4 of 10.1.2.3
    ("2002:7f00:0001::", "loopback"),
    ("2001:0:4136:e378:8000:63bf:f5fe:fdfc", "reserved"),  # Teredo, client 10.1.2.3
]
METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "168.63.129.16",
    "100.100.100.200",
    "fd00:ec2::254",
    "fd20:ce::254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
]
PUBLIC = [
    "1.1.1.1",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "::ffff:1.1.1.1",
    "64:ff9b::1.1.1.1",
]


@pytest.mark.parametrize(("ip", "rule"), DENIED)
def test_special_address_is_denied_by_its_rule(ip: str, rule: str) -> None:
    with pytest.raises(EgressDenied, match=f"{rule} address"):
        STRICT.check_address("api.example", ip)


@pytest.mark.parametrize("ip", METADATA)
def test_metadata_is_denied_even_where_private_and_all_names_and_networks_are_allowed(
    ip: str,
) -> None:
    rules = AddressRules(
        allow_private=True,
        hosts=("*", "api.example"),
        cidrs=("0.0.0.0/0", "::/0", "169.254.0.0/16"),
    )
    with pytest.raises(EgressDenied, match="cloud metadata address"):
        rules.check_address("api.example", ip)


@pytest.mark.parametrize(
    "rules",
    [
        AddressRules(hosts=("169.254.169.254",)),
        AddressRules(cidrs=("169.254.169.254/32",)),
        AddressRules(cidrs=("169.254.169.254",)),
    ],
)
def test_metadata_opens_only_to_its_own_address(rules: AddressRules) -> None:
    rules.check_address("169.254.169.254", "169.254.169.254")
    rules.check_url("http://169.254.169.254/latest")
    with pytest.raises(EgressDenied):
        rules.check_address("169.254.170.2", "169.254.170.2")


@pytest.mark.parametrize("ip", PUBLIC)
def test_public_address_is_allowed(ip: str) -> None:
    STRICT.check_address("api.example", ip)


@pytest.mark.parametrize(("ip", "rule"), DENIED)
def test_allow_private_lifts_loopback_and_private_only(ip: str, rule: str) -> None:
    if rule in ("loopback", "private"):
        PRIVATE.check_address("api.example", ip)
    else:
        with pytest.raises(EgressDenied):
            PRIVATE.check_address("api.example", ip)


def test_host_glob_lifts_every_rule_but_metadata_for_that_name_only() -> None:
    rules = AddressRules(hosts=("*.Corp.example", "lab.example."))
    for host in ("llm.corp.example", "lab.example"):
        for ip in ("10.0.0.1", "127.0.0.1", "169.254.1.1", "fd00::1"):
            rules.check_address(host, ip)
        with pytest.raises(EgressDenied, match="cloud metadata"):
            rules.check_address(host, "169.254.169.254")
    for host in ("corp.example", "evilcorp.example", "llm.corp.example.evil"):
        with pytest.raises(EgressDenied):
            rules.check_address(host, "10.0.0.1")


def test_cidr_lifts_its_addresses_only() -> None:
    rules = AddressRules(cidrs=("10.1.0.0/16", "::1/128"))
    rules.check_address("any.example", "10.1.2.3")
    rules.check_address("any.example", "::ffff:10.1.2.3")
    rules.check_address("any.example", "::1")
    with pytest.raises(EgressDenied):
        rules.check_address("any.example", "10.2.0.1")


def test_unreadable_cidr_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/99"):
        AddressRules(cidrs=("10.0.0.0/99",))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.com/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("gopher://example.com/", "scheme"),
        ("http+unix://%2Frun%2Fdocker.sock/v1", "scheme"),
        ("example.com/path", "scheme"),
        ("http://user:pw@example.com/", "user information"),
        ("http://example.com@127.0.0.1/", "user information"),
        ("http://example.com/#frag", "fragment"),
        ("http://example.com#@127.0.0.1/", "fragment"),
        ("http://example.com\\@127.0.0.1/", "backslash"),
        ("http://example.com/\r\nX: y", "control character"),
        ("http://exam\tple.com/", "control character"),
        ("http://example.com/a b", "space"),
        (" http://example.com/", "space"),
        ("http:///path", "no host"),
        ("http://example.com:0/", "port 0"),
        ("http://example.com:22/", "port 22"),
        ("http://example.com:65536/", "[Pp]ort"),
        ("http://example.com:x/", "[Pp]ort"),
        ("http://[::1/", "."),
        ("http://[fe80::1%25eth0]/", "percent|zone"),
        ("http://127.0.0%2e1/", "percent-encoded"),
        ("http://%31%32%37.0.0.1/", "percent-encoded"),
        ("http://2130706433/", "plain IPv4"),
        ("http://0x7f000001/", "plain IPv4"),
        ("http://0x7f.0.0.1/", "plain IPv4"),
        ("http://0X7F.1/", "plain IPv4"),
        ("http://0177.0.0.1/", "plain IPv4"),
        ("http://127.1/", "plain IPv4"),
        ("http://127.0.0.1.1/", "plain IPv4"),
        ("http://256.0.0.1/", "plain IPv4"),
        ("http://127.0.0.1/", "loopback"),
        ("http://127.0.0.1./", "loopback"),
        ("http://\uff11\uff12\uff17.0.0.1/", "loopback"),  # full-width digits
        ("http://127\u30020\u30020\u30021/", "loopback"),  # ideographic full stops
        ("HTTPS://[::1]:8443/", "loopback"),
        ("http://[::ffff:7f00:1]/", "loopback"),
        ("http://169.254.169.254/latest/meta-data/", "cloud metadata"),
        ("http://exa_mple!.com/", "not a name"),
        ("http://a..b/", "not a name"),
        ("http://" + "a" * 64 + ".com/", "not a name"),
    ],
)
def test_url_is_denied_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(EgressDenied, match=reason):
        STRICT.check_url(url)


def test_denial_does_not_repeat_secrets_of_the_url() -> None:
    with pytest.raises(EgressDenied) as caught:
        STRICT.check_url("http://user:hunter2@example.com/?key=sk-123")
    assert "hunter2" not in str(caught.value)
    assert "sk-123" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "host", "authority"),
    [
        ("https://api.example.com/v1", "api.example.com", "api.example.com"),
        ("HTTPS://API.Example.COM./v1", "api.example.com", "api.example.com"),
        ("https://api.example.com:443/v1", "api.example.com", "api.example.com"),
        ("https://api.example.com:8443/v1", "api.example.com", "api.example.com:8443"),
        ("http://my_service:8000/v1", "my_service", "my_service:8000"),
        ("https://bücher.example/v1", "xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("http://[2606:4700:0:0::1111]:8080/v1", "2606:4700::1111", "[2606:4700::1111]:8080"),
    ],
)
def test_good_url_is_normalised_and_allowed(url: str, host: str, authority: str) -> None:
    parts = split_url(url)
    assert (parts.host, parts.authority, parts.target) == (host, authority, "/v1")
    STRICT.check_url(url)


def test_empty_path_becomes_slash_and_query_is_kept() -> None:
    assert split_url("http://example.com?x=1&y").target == "/?x=1&y"


def test_path_that_is_not_ascii_is_refused() -> None:
    with pytest.raises(ValueError, match="ASCII"):
        split_url("http://example.com/ü")


def test_unix_socket_path_is_the_host() -> None:
    parts = split_url("http+unix://%2Frun%2FLiteLLM.sock/v1/models")
    assert (parts.host, parts.target, parts.authority) == (
        "/run/LiteLLM.sock",
        "/v1/models",
        "localhost",
    )


@given(st.ip_addresses(v=4))
def test_translated_forms_are_judged_as_the_address_they_carry(address: object) -> None:
    number = int(address)  # type: ignore[call-overload]
    high, low = number >> 16, number & 0xFFFF

    def allowed(ip: str) -> bool:
        try:
            STRICT.check_address("api.example", ip)
        except EgressDenied:
            return False
        return True

    plain = allowed(str(address))
    assert allowed(f"::ffff:{address}") == plain
    assert allowed(f"64:ff9b::{address}") == plain
    assert allowed(f"2002:{high:x}:{low:x}::1") == plain


@given(st.text(max_size=40))
def test_any_text_is_either_a_url_or_a_clean_denial(text: str) -> None:
    for url in (text, f"http://{text}", f"https://{text}/x"):
        try:
            STRICT.check_url(url)
        except EgressDenied:
            continue
        assert split_url(url).host
