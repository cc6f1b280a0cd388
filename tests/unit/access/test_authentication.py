from __future__ import annotations

import pytest

from routeiq.access.authentication import Authenticator, token_from
from routeiq.access.principal import Principal
from routeiq.exceptions import InvalidApiKey


@pytest.fixture
def authenticator() -> Authenticator:
    return Authenticator(master_key="sk-master", admin_keys=("sk-second", "sk-third"))


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([(b"authorization", b"Bearer sk-1")], b"sk-1"),
        ([(b"authorization", b"bearer  sk-1 ")], b"sk-1"),
        ([(b"x-api-key", b"sk-2")], b"sk-2"),
        ([(b"api-key", b"sk-3")], b"sk-3"),
        ([(b"x-api-key", b"sk-2"), (b"authorization", b"Bearer sk-1")], b"sk-1"),
        ([(b"authorization", b"Basic dXNlcg==")], None),
        ([(b"authorization", b"Bearer ")], None),
        ([], None),
    ],
)
def test_credential_is_taken_from_the_documented_headers(
    headers: list[tuple[bytes, bytes]], token: bytes | None
) -> None:
    assert token_from(headers) == token


@pytest.mark.parametrize(
    ("key", "alias"),
    [(b"sk-master", "master"), (b"sk-second", "admin-1"), (b"sk-third", "admin-2")],
)
def test_known_keys_are_admins(authenticator: Authenticator, key: bytes, alias: str) -> None:
    caller = authenticator.authenticate([(b"authorization", b"Bearer " + key)])
    assert caller == Principal(alias=alias, admin=True)


@pytest.mark.parametrize("key", [b"sk-maste", b"sk-master2", b"\xff\xfe", b"sk-" + b"x" * 10_000])
def test_wrong_key_is_refused_without_saying_why(authenticator: Authenticator, key: bytes) -> None:
    with pytest.raises(InvalidApiKey) as caught:
        authenticator.authenticate([(b"authorization", b"Bearer " + key)])
    assert "sk-" not in caught.value.message
    assert caught.value.status == 401


def test_missing_key_says_how_to_send_one(authenticator: Authenticator) -> None:
    with pytest.raises(InvalidApiKey, match="Authorization: Bearer"):
        authenticator.authenticate([])


def test_without_any_key_nobody_gets_in() -> None:
    with pytest.raises(InvalidApiKey):
        Authenticator(master_key=None).authenticate([(b"authorization", b"Bearer ")])


def test_insecure_lets_everybody_in_as_admin() -> None:
    caller = Authenticator(master_key=None, insecure=True).authenticate([])
    assert caller.admin
    assert caller.alias == "anonymous"
