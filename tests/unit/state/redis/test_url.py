"""What REDIS_URL may say."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import trustme

from routeiq.exceptions import ConfigError
from routeiq.ports import SystemClock
from routeiq.state.link import Link
from routeiq.state.redis import connect
from routeiq.state.redis.url import parse


def test_one_server() -> None:
    target = parse("redis://me:p%40ss@cache:7000/3")
    assert (target.mode, target.hosts, target.db) == ("single", (("cache", 7000),), 3)
    assert (target.username, target.password, target.tls) == ("me", "p@ss", None)


def test_sentinels_and_their_master() -> None:
    target = parse("redis+sentinel://:pw@a:1,b,[::1]:3/main/2?sentinel_password=other")
    assert target.hosts == (("a", 1), ("b", 26379), ("::1", 3))
    assert (target.master, target.db, target.password) == ("main", 2, "pw")
    assert target.sentinel_password == "other"


def test_cluster() -> None:
    target = parse("redis+cluster://:pw@a:1,b")
    assert (target.mode, target.hosts) == ("cluster", (("a", 1), ("b", 6379)))


def test_tls_with_a_ca_and_a_client_certificate(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    made = ca.issue_cert("client")
    made.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    query = f"ssl_ca_certs={tmp_path}/ca.pem&ssl_certfile={tmp_path}/client.pem"
    target = parse(f"rediss://h/0?{query}&ssl_keyfile={tmp_path}/client.pem")
    assert target.tls is not None
    assert "trustme" in str(target.tls.get_ca_certs())
    assert target.tls.check_hostname


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h", "'http' is not a scheme"),
        ("redis:///0", "names no host"),
        ("redis://h:port", "is not host:port"),
        ("redis://h/zero", "number of a database"),
        ("redis+sentinel://h", "the master that the sentinels watch"),
        ("redis+cluster://h/1", "database 0 only"),
        ("redis://h?socket_timeout=9", "'socket_timeout' is not a parameter"),
        ("redis://h?ssl_ca_certs=x", "'ssl_ca_certs' is not a parameter"),
        ("rediss://h?ssl_ca_certs=/nowhere", "TLS parameters cannot be used"),
        ("rediss://h?ssl_cert_reqs=maybe", "TLS parameters cannot be used"),
        ("redis://h?db=x", "Invalid value for 'db'"),
    ],
)
def test_what_cannot_be_used_is_said(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse(url)
    assert caught.value.problems[0].key == "REDIS_URL"


def test_the_password_is_never_printed() -> None:
    target = parse("rediss://me:hunter2@h/0")
    assert "hunter2" not in repr(target)
    for url in ("redis://:hunter2@h/x", "redis://:hunter2@h:x", "http://:hunter2@h"):
        with pytest.raises(ConfigError) as caught:
            parse(url)
        assert "hunter2" not in str(caught.value)


def test_without_the_driver_the_command_to_install_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without_redis(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("redis"):
            raise ImportError("No module named 'redis'", name="redis")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_redis)
    with pytest.raises(ConfigError, match=r"pip install 'routeiq-router\[redis\]'"):
        connect("redis://h", link=Link("redis", SystemClock()))
