from __future__ import annotations

import asyncio
import hashlib
import hmac

import pytest

from routeiq.access.keys import (
    Pepper,
    could_be_ours,
    display_prefix,
    hash_secret,
    is_sealed,
    new_secret,
)
from routeiq.exceptions import ConfigError, StoreUnavailable
from tests.support.directory import FakeDocuments

PEPPER = b"p" * 32


def test_secrets_have_their_form_and_never_repeat() -> None:
    secrets = {new_secret(PEPPER) for _ in range(200)}
    assert len(secrets) == 200
    for secret in secrets:
        assert could_be_ours(secret.encode())
        assert is_sealed(secret.encode(), PEPPER)
        assert display_prefix(secret) == secret[:13]
        assert len(secret) == 7 + 43 + 6


def test_every_random_bit_can_reach_the_secret() -> None:
    seen = [set() for _ in range(43)]  # type: list[set[str]]
    for _ in range(400):
        for position, letter in enumerate(new_secret(PEPPER)[7:50]):
            seen[position].add(letter)
    # 62^43 is a little more than 2^256, so the last letter is one of 0 to 9 and few more.
    assert all(len(letters) > 40 for letters in seen[:42])


def test_a_secret_that_was_changed_or_made_with_another_pepper_has_no_seal() -> None:
    secret = new_secret(PEPPER)
    swapped = secret[:20] + ("a" if secret[20] != "a" else "b") + secret[21:]
    assert not is_sealed(swapped.encode(), PEPPER)
    assert not is_sealed(secret.encode(), b"q" * 32)


@pytest.mark.parametrize("token", [b"", b"sk-riq-", b"sk-1234", b"sk-riq-" + b"-" * 49, b"\xff"])
def test_other_tokens_cannot_be_ours(token: bytes) -> None:
    assert not could_be_ours(token)


def test_a_trailing_newline_is_no_part_of_a_secret() -> None:
    assert not could_be_ours(new_secret(PEPPER).encode() + b"\n")


def test_the_hash_is_keyed() -> None:
    secret = new_secret(PEPPER).encode()
    expected = hmac.new(PEPPER, secret, hashlib.sha256).hexdigest()
    assert hash_secret(secret, PEPPER).hex() == expected
    assert hash_secret(secret, b"q" * 32).hex() != expected


@pytest.mark.anyio
async def test_racing_workers_agree_on_one_pepper() -> None:
    documents = FakeDocuments()
    peppers = [Pepper(documents) for _ in range(5)]
    assert all(pepper.value is None for pepper in peppers)
    values = await asyncio.gather(*(pepper.get() for pepper in peppers))
    assert len(set(values)) == 1
    assert len(values[0]) == 32
    assert documents.document.version == 1
    assert await Pepper(documents).get() == values[0]


@pytest.mark.anyio
async def test_the_setting_is_taken_without_asking_a_store() -> None:
    documents = FakeDocuments()
    documents.down = True
    one, other = (Pepper(documents, setting=letter * 32) for letter in "ab")
    assert one.value == await one.get() != await other.get()
    unset = Pepper(documents)
    with pytest.raises(StoreUnavailable):
        await unset.get()
    documents.down = False
    assert await unset.get() == unset.value


def test_a_short_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="ROUTEIQ_KEY_SECRET"):
        Pepper(FakeDocuments(), setting="short")
