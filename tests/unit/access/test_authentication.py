from __future__ import annotations

import pytest

from routeiq.access.authentication import Authenticator, token_from
from routeiq.access.declared import Declared
from routeiq.access.key_cache import KeyCache
from routeiq.access.keys import Pepper, hash_secret, new_secret
from routeiq.access.principal import Principal
from routeiq.config.access import Access
from routeiq.exceptions import InvalidApiKey, PermissionDenied, StateUnavailable
from routeiq.ports import Header
from routeiq.stores import Entity
from tests.support.clock import FakeClock
from tests.support.directory import FakeDirectory, FakeDocuments

pytestmark = pytest.mark.anyio
DECLARED = "a-declared-secret"


def bearer(token: bytes | str) -> list[Header]:
    raw = token if isinstance(token, bytes) else token.encode()
    return [(b"host", b"gateway"), (b"authorization", b"Bearer " + raw)]


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
async def test_known_keys_are_admins(authenticator: Authenticator, key: bytes, alias: str) -> None:
    expected = Principal(alias=alias, admin=True)
    assert authenticator.known(bearer(key)) == expected
    assert await authenticator.authenticate(bearer(key)) == expected
    assert await authenticator.require(bearer(key), "keys.write") == expected


@pytest.mark.parametrize("key", [b"sk-maste", b"sk-master2", b"\xff\xfe", b"sk-" + b"x" * 10_000])
async def test_wrong_key_is_refused_without_saying_why(
    authenticator: Authenticator, key: bytes
) -> None:
    with pytest.raises(InvalidApiKey) as caught:
        await authenticator.authenticate(bearer(key))
    assert "sk-" not in caught.value.message
    assert caught.value.status == 401


async def test_missing_key_says_how_to_send_one(authenticator: Authenticator) -> None:
    with pytest.raises(InvalidApiKey, match="Authorization: Bearer"):
        await authenticator.authenticate([])


def test_without_any_key_nobody_gets_in() -> None:
    with pytest.raises(InvalidApiKey):
        Authenticator(master_key=None).known([(b"authorization", b"Bearer ")])


class Stored:
    """An authenticator over one stored key."""

    def __init__(self, clock: FakeClock, *, insecure: bool = False) -> None:
        pepper = Pepper(FakeDocuments(), setting="a setting for the tests")
        assert pepper.value is not None
        self.token = new_secret(pepper.value)
        self.other = new_secret(pepper.value)
        self.directory = FakeDirectory()
        self.clock = clock
        self._hash = hash_secret(self.token.encode(), pepper.value).hex()
        self.put()
        declared = Declared(Access.model_validate({"keys": {"bot": {"key": DECLARED}}}))
        self.authenticator = Authenticator(
            master_key="sk-master",
            insecure=insecure,
            declared=declared,
            keys=KeyCache(self.directory, pepper=pepper, clock=clock),
            clock=clock,
        )

    def put(self, **more: object) -> None:
        entity = Entity(id="key-1", kind="key", alias="mine", secret_hash=self._hash, **more)  # type: ignore[arg-type]
        self.directory.entities["key", "key-1"] = entity


async def test_a_stored_key_is_asked_for_once_and_then_known(clock: FakeClock) -> None:
    world = Stored(clock)
    headers = bearer(world.token)
    assert world.authenticator.known(headers) is None
    principal = await world.authenticator.authenticate(iter(headers))
    assert (principal.alias, principal.admin) == ("mine", False)
    assert world.authenticator.known(headers) is principal


async def test_admins_and_declared_keys_need_no_store(clock: FakeClock) -> None:
    world = Stored(clock)
    world.directory.down = True
    assert (await world.authenticator.authenticate(bearer("sk-master"))).admin
    declared = world.authenticator.known(bearer(DECLARED))
    assert declared is not None
    assert declared.key_id == "config:bot"
    with pytest.raises(StateUnavailable):
        await world.authenticator.authenticate(bearer(world.token))
    with pytest.raises(InvalidApiKey):  # no key of ours: nothing to ask
        await world.authenticator.authenticate(bearer("sk-riq-guess"))


async def test_expiry_is_looked_at_on_each_use(clock: FakeClock) -> None:
    world = Stored(clock)
    world.put(expires_at=clock.wall() + 10)
    await world.authenticator.authenticate(bearer(world.token))
    clock.advance(10)
    with pytest.raises(InvalidApiKey, match="expired at 2027-01-15T08:00:10Z"):
        world.authenticator.known(bearer(world.token))


async def test_a_revoked_key_is_told_so(clock: FakeClock) -> None:
    world = Stored(clock)
    world.put(revoked_at=1.0)
    for _ in range(2):
        with pytest.raises(InvalidApiKey, match="was revoked"):
            await world.authenticator.authenticate(bearer(world.token))


async def test_rights_are_required_by_name(clock: FakeClock) -> None:
    world = Stored(clock)
    world.put(body={"permissions": ["keys.read"]})
    assert (await world.authenticator.require(bearer(world.token), "keys.read")).alias == "mine"
    with pytest.raises(PermissionDenied, match=r"`keys\.write`"):
        await world.authenticator.require(bearer(world.token), "keys.write")
    with pytest.raises(InvalidApiKey):
        await world.authenticator.require([], "keys.read")


async def test_insecure_lets_everybody_in_as_admin(clock: FakeClock) -> None:
    world = Stored(clock, insecure=True)
    for headers in ([], bearer("whatever"), bearer(world.other)):
        caller = await world.authenticator.authenticate(headers)
        assert (caller.admin, caller.alias) == (True, "anonymous")
    assert (await world.authenticator.authenticate(bearer(world.token))).alias == "mine"
    refused = Stored(clock, insecure=True)
    refused.put(revoked_at=1.0)
    with pytest.raises(InvalidApiKey, match="revoked"):
        await refused.authenticator.authenticate(bearer(refused.token))
