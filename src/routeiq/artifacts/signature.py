"""Signing manifests and the policy that says which signatures are accepted.

What is signed is the canonical manifest *with the signature's type and key id in it* behind a fixed prefix:
a signature of one type cannot be passed off as one of another (an ed25519 public key as an HMAC secret), and one
made for something else cannot be used here. Keys are found by (type, key id), never by what the artifact wants.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from routeiq.exceptions import ConfigError, Problem

from .errors import SignatureRefused
from .manifest import Manifest, Signature, canonical

ED25519 = "ed25519"
HMAC_SHA256 = "hmac-sha256"
MIN_HMAC_KEY = 32
_DOMAIN = b"routeiq artifact manifest v1\n"
PUBLIC_KEY = "ROUTEIQ_ARTIFACT_PUBLIC_KEY"
HMAC_KEY = "ROUTEIQ_ARTIFACT_HMAC_KEY"
REQUIRED = "ROUTEIQ_ARTIFACT_REQUIRE_SIGNATURE"


class Signer(Protocol):
    """Something that holds a secret key."""

    @property
    def type(self) -> str:
        """`ed25519` or `hmac-sha256`."""
        ...

    @property
    def key_id(self) -> str:
        """Which key: 16 hex digits derived from it."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The signature of `message`."""
        ...


class VerifyKey(Protocol):
    """A key that signatures are checked with."""

    @property
    def type(self) -> str:
        """`ed25519` or `hmac-sha256`."""
        ...

    @property
    def key_id(self) -> str:
        """Which key: 16 hex digits derived from it."""
        ...

    def verify(self, message: bytes, value: bytes) -> bool:
        """Whether `value` is this key's signature of `message`; takes the same time either way."""
        ...


@dataclass(frozen=True, slots=True)
class HmacKey:
    """A shared secret of at least 32 bytes: whoever can verify can also sign."""

    secret: bytes = field(repr=False)
    type: str = field(default=HMAC_SHA256, init=False)

    @property
    def key_id(self) -> str:
        """Derived with the key, so that the id gives nothing away that the signature does not."""
        return hmac.digest(self.secret, b"routeiq key id", "sha256").hex()[:16]

    def sign(self, message: bytes) -> bytes:
        """HMAC-SHA-256 (RFC 2104)."""
        return hmac.digest(self.secret, message, "sha256")

    def verify(self, message: bytes, value: bytes) -> bool:
        """Compares in constant time."""
        return hmac.compare_digest(self.sign(message), value)


@dataclass(frozen=True, slots=True)
class Ed25519PublicKey:
    """The 32 bytes of an ed25519 public key (RFC 8032): can verify, cannot sign."""

    raw: bytes
    type: str = field(default=ED25519, init=False)

    @property
    def key_id(self) -> str:
        """The start of the key's SHA-256."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def verify(self, message: bytes, value: bytes) -> bool:
        """Check with the `cryptography` package."""
        keys = _cryptography()
        try:
            keys.Ed25519PublicKey.from_public_bytes(self.raw).verify(value, message)
        except _invalid_signature():
            return False
        return True


@dataclass(frozen=True, slots=True)
class Ed25519PrivateKey:
    """The 32-byte seed of an ed25519 key pair."""

    seed: bytes = field(repr=False)
    type: str = field(default=ED25519, init=False)

    @property
    def public(self) -> Ed25519PublicKey:
        """The half that may be given away."""
        key = _cryptography().Ed25519PrivateKey.from_private_bytes(self.seed)
        return Ed25519PublicKey(key.public_key().public_bytes_raw())

    @property
    def key_id(self) -> str:
        """The public key's."""
        return self.public.key_id

    def sign(self, message: bytes) -> bytes:
        """Sign with the `cryptography` package."""
        signed: bytes = (
            _cryptography().Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)
        )
        return signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """The policy: which keys are trusted, and whether an artifact must be signed by one of them."""

    keys: tuple[VerifyKey, ...] = ()
    required: bool = False

    def check(self, manifest: Manifest) -> str:
        """Accept or refuse; returns `verified`, `unsigned` or `unchecked` (signed, no keys configured).

        Raises:
            SignatureRefused: unsigned although required, by a key that is not trusted, or wrong.
        """
        signature = manifest.signature
        if signature is None:
            if self.required:
                raise SignatureRefused(
                    f"the artifact is not signed, and a signature is required ({REQUIRED}): "
                    "sign it with `routeiq models sign`."
                )
            return "unsigned"
        if not self.keys:
            if self.required:
                raise SignatureRefused("a signature is required but no key is configured.")
            return "unchecked"
        key = next(
            (k for k in self.keys if (k.type, k.key_id) == (signature.type, signature.key_id)), None
        )
        if key is None:
            trusted = ", ".join(f"{k.type} {k.key_id}" for k in self.keys)
            raise SignatureRefused(
                f"the artifact is signed by {signature.type!r:.40} key {signature.key_id!r:.40}, "
                f"which is not trusted; trusted: {trusted}."
            )
        if not key.verify(_message(manifest, signature), _value(signature)):
            raise SignatureRefused(
                f"the signature by {key.type} key {key.key_id} is wrong: "
                "the manifest was changed after it was signed."
            )
        return "verified"


def signed(manifest: Manifest, signer: Signer) -> Manifest:
    """The manifest with `signer`'s signature; an earlier one is replaced."""
    blank = Signature(type=signer.type, key_id=signer.key_id, value="")
    value = signer.sign(_message(manifest, blank)).hex()
    return replace(manifest, signature=replace(blank, value=value))


def verifier_from(
    *, public_key: str | None = None, hmac_key: str | None = None, required: bool | None = None
) -> Verifier:
    """The policy that the settings describe.

    Args:
        public_key: ed25519 public keys, separated by commas (a rotation needs two): each 32 bytes in hex or
            base64, or the path of a file with that or with PEM.
        hmac_key: secrets of at least 32 bytes, separated by commas: hex, base64, or the path of such a file.
        required: whether unsigned artifacts are refused; by default they are if there is any key.

    Raises:
        ConfigError: a key that cannot be read, or `required` without any key.
    """
    keys: list[VerifyKey] = [Ed25519PublicKey(_public(word)) for word in _words(public_key)]
    keys += [HmacKey(_secret(word)) for word in _words(hmac_key)]
    if required and not keys:
        message = "is on, but there is no key to check a signature with."
        fix = f"Set {PUBLIC_KEY} or {HMAC_KEY}."
        raise ConfigError([Problem(key=REQUIRED, message=message, fix=fix)])
    return Verifier(keys=tuple(keys), required=bool(keys) if required is None else required)


def signer_from(*, private_key: str | None = None, hmac_key: str | None = None) -> Signer:
    """The signer that a key describes.

    Args:
        private_key: ed25519: the path of a PEM file, or the 32-byte seed in hex or base64.
        hmac_key: a secret of at least 32 bytes in hex or base64, or the path of such a file.

    Raises:
        ConfigError: none or both are given, or a key cannot be read.
    """
    if private_key and not hmac_key:
        return Ed25519PrivateKey(_seed(private_key))
    if hmac_key and not private_key:
        return HmacKey(_secret(hmac_key))
    message = "give one key to sign with, an ed25519 private key or an HMAC key."
    raise ConfigError([Problem(key="key", message=message)])


def new_key() -> Ed25519PrivateKey:
    """A key pair from the system's randomness."""
    return Ed25519PrivateKey(os.urandom(32))


def private_pem(key: Ed25519PrivateKey) -> bytes:
    """PKCS#8 PEM, unencrypted: keep the file to yourself."""
    serialization = _serialization()
    private = _cryptography().Ed25519PrivateKey.from_private_bytes(key.seed)
    pem: bytes = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem


def public_pem(key: Ed25519PublicKey) -> bytes:
    """SubjectPublicKeyInfo PEM."""
    serialization = _serialization()
    public = _cryptography().Ed25519PublicKey.from_public_bytes(key.raw)
    pem: bytes = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def _message(manifest: Manifest, signature: Signature) -> bytes:
    document: Mapping[str, Any] = manifest.document() | {
        "signature": {"type": signature.type, "key_id": signature.key_id}
    }
    return _DOMAIN + canonical(document)


def _value(signature: Signature) -> bytes:
    try:
        return bytes.fromhex(signature.value)
    except ValueError:
        return b""


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def _bytes(text: str, name: str) -> bytes:
    """The content of the file `text`, else `text` itself; PEM as it is, hex and base64 decoded."""
    try:
        raw = Path(text).read_bytes() if os.path.isfile(text) else text.encode()
    except OSError as error:
        raise _unusable(name, f"cannot be read: {error}.") from error
    if b"-----BEGIN" in raw:
        return raw
    plain = b"".join(raw.split())
    try:
        return bytes.fromhex(plain.decode("ascii"))
    except ValueError:
        pass  # not hex: base64, or nothing
    try:
        return base64.b64decode(
            plain, altchars=b"-_" if set(plain) & set(b"-_") else None, validate=True
        )
    except binascii.Error:
        raise _unusable(name, "is neither hex nor base64 nor a file.") from None


def _public(text: str) -> bytes:
    raw = _bytes(text, PUBLIC_KEY)
    if b"-----BEGIN" in raw:
        key = _pem(PUBLIC_KEY, raw, "load_pem_public_key")
        if not isinstance(key, _cryptography().Ed25519PublicKey):
            raise _unusable(PUBLIC_KEY, "is not an ed25519 public key.")
        public: bytes = key.public_bytes_raw()
        return public
    if len(raw) != 32:
        raise _unusable(PUBLIC_KEY, f"has {len(raw)} bytes; an ed25519 public key has 32.")
    return raw


def _seed(text: str) -> bytes:
    raw = _bytes(text, "private key")
    if b"-----BEGIN" in raw:
        key = _pem("private key", raw, "load_pem_private_key", password=None)
        if not isinstance(key, _cryptography().Ed25519PrivateKey):
            raise _unusable("private key", "is not an ed25519 private key.")
        seed: bytes = key.private_bytes_raw()
        return seed
    if len(raw) != 32:
        raise _unusable("private key", f"has {len(raw)} bytes; an ed25519 seed has 32.")
    return raw


def _secret(text: str) -> bytes:
    raw = _bytes(text, HMAC_KEY)
    if len(raw) < MIN_HMAC_KEY or b"-----BEGIN" in raw:
        raise _unusable(HMAC_KEY, f"has {len(raw)} bytes; at least {MIN_HMAC_KEY} are needed.")
    return raw


def _pem(name: str, raw: bytes, loader: str, **options: None) -> Any:
    try:
        return getattr(_serialization(), loader)(raw, **options)
    except (ValueError, TypeError) as error:
        raise _unusable(name, f"is not PEM that can be read: {error}.") from error


def _unusable(name: str, message: str) -> ConfigError:
    fix = "Make a key with `routeiq models keygen`."
    return ConfigError([Problem(key=name, message=message, fix=fix)])


def _cryptography() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        message = "ed25519 needs the cryptography package."
        fix = "pip install 'routeiq-router[signing]', or use an HMAC key."
        raise ConfigError([Problem(key="signature", message=message, fix=fix)]) from error
    return ed25519


def _serialization() -> Any:
    _cryptography()
    from cryptography.hazmat.primitives import serialization

    return serialization


def _invalid_signature() -> type[Exception]:
    from cryptography.exceptions import InvalidSignature

    return InvalidSignature
