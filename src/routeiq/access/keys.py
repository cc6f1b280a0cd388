"""Secrets of keys: how they are made, shown, hashed and recognised.

A secret is `sk-riq-`, 43 random characters (256 bits) and a seal of six, which only who knows the pepper can make:
a guess is refused without asking the database. What is stored is a keyed hash: a copy of the database gives no
key away, and nobody who can write to it can add one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Protocol

from routeiq.exceptions import ConfigError, Conflict, Problem
from routeiq.stores import Change, Document, Documents
from routeiq.types import JsonObject

PREFIX = "sk-riq-"
SHOWN = len(PREFIX) + 6
PEPPER_DOCUMENT = "key-pepper"
"""The document with the random pepper of an installation; nothing may ever show its body."""
MIN_SETTING = 16

_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_BYTES, _RANDOM, _SEAL = 32, 43, 6
_FORM = re.compile(rb"sk-riq-[0-9A-Za-z]{%d}" % (_RANDOM + _SEAL))


def new_secret(pepper: bytes) -> str:
    """A secret that nobody has, with its seal."""
    number = int.from_bytes(secrets.token_bytes(_RANDOM_BYTES), "big")
    body = PREFIX + _letters(number, _RANDOM)
    return body + _seal(body.encode(), pepper)


def display_prefix(secret: str) -> str:
    """What is stored and shown of a secret, so that a person can tell which one it is."""
    return secret[:SHOWN]


def hash_secret(secret: bytes, pepper: bytes) -> bytes:
    """The keyed hash under which a secret is stored (in hex)."""
    return hmac.digest(pepper, secret, "sha256")


def could_be_ours(token: bytes) -> bool:
    """Whether a token has the form of a secret of ours."""
    return _FORM.fullmatch(token) is not None


def is_sealed(token: bytes, pepper: bytes) -> bool:
    """Whether a token was made by somebody who knows the pepper."""
    body, seal = token[:-_SEAL], token[-_SEAL:]
    return hmac.compare_digest(_seal(body, pepper).encode(), seal)


def _seal(body: bytes, pepper: bytes) -> str:
    digest = hmac.digest(pepper, b"seal:" + body, "sha256")
    return _letters(int.from_bytes(digest, "big"), _SEAL)


def _letters(number: int, length: int) -> str:
    letters = []
    for _ in range(length):
        number, rest = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[rest])
    return "".join(letters)


class PepperStore(Protocol):
    """The part of `routeiq.stores.Documents` that a pepper needs."""

    async def read(self, name: str) -> Document:
        """As `Documents.read`."""
        ...

    async def write(
        self, name: str, body: JsonObject | None, change: Change, *, expected: int | None = None
    ) -> Document:
        """As `Documents.write`."""
        ...


class Pepper:
    """What all hashes of an installation are keyed with: ROUTEIQ_KEY_SECRET, else a stored random value.

    Another value makes every stored key invalid. `value` is `None` until it is known: with no setting, `get` must
    have reached the database once.
    """

    def __init__(self, documents: PepperStore | Documents, *, setting: str | None = None) -> None:
        if setting is not None and len(setting) < MIN_SETTING:
            message = (
                f"needs at least {MIN_SETTING} characters, or nobody is kept from guessing it."
            )
            fix = "Write 32 random bytes in hex, or unset it for a value that RouteIQ makes."
            raise ConfigError([Problem(key="ROUTEIQ_KEY_SECRET", message=message, fix=fix)])
        self._documents = documents
        self.value = None if setting is None else hashlib.sha256(setting.encode()).digest()

    async def get(self) -> bytes:
        """The pepper; the first worker of an installation makes it, all others take the same.

        Raises:
            StoreUnavailable: it is not known yet and the database cannot be asked.
        """
        if self.value is None:
            self.value = await self._stored()
        return self.value

    async def _stored(self) -> bytes:
        document = await self._documents.read(PEPPER_DOCUMENT)
        if not document.body:
            body = {"pepper": secrets.token_hex(_RANDOM_BYTES)}
            change = Change(actor="routeiq", action="keys.pepper", target=PEPPER_DOCUMENT)
            try:
                document = await self._documents.write(
                    PEPPER_DOCUMENT, body, change, expected=document.version
                )
            except Conflict:  # another worker was first: its value is the one
                document = await self._documents.read(PEPPER_DOCUMENT)
        return bytes.fromhex((document.body or {})["pepper"])
