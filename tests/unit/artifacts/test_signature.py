from __future__ import annotations

import base64
import hashlib
import hmac
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from routeiq.artifacts.errors import SignatureRefused
from routeiq.artifacts.manifest import FileEntry, Manifest, Signature, canonical
from routeiq.artifacts.signature import (
    Ed25519PrivateKey,
    HmacKey,
    Verifier,
    new_key,
    private_pem,
    public_pem,
    signed,
    signer_from,
    verifier_from,
)
from routeiq.exceptions import ConfigError

SECRET = bytes(range(32))
PAIR = Ed25519PrivateKey(bytes(range(32, 64)))


@pytest.fixture
def manifest() -> Manifest:
    made = Manifest(
        strategy="knn",
        version="",
        created="2027-01-15T08:00:00Z",
        features="f",
        models=("a",),
        data_sha256="",
        settings={},
        metrics={},
        certificates=[],
        files={"weights.safetensors": FileEntry(sha256="0" * 64, size=8)},
    )
    return replace(made, version=made.content_version())


def test_ed25519_agrees_with_rfc_8032() -> None:
    # RFC 8032, section 7.1, TEST 2
    key = Ed25519PrivateKey(
        bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    )
    public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.public.raw.hex() == public
    assert key.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert key.key_id == hashlib.sha256(bytes.fromhex(public)).hexdigest()[:16]


def test_what_is_signed_is_the_canonical_manifest_with_type_and_key_id(manifest: Manifest) -> None:
    key = HmacKey(SECRET)
    found = signed(manifest, key).signature
    document = manifest.document() | {"signature": {"type": "hmac-sha256", "key_id": key.key_id}}
    message = b"routeiq artifact manifest v1\n" + canonical(document)
    assert found is not None
    assert found.value == hmac.new(SECRET, message, "sha256").hexdigest()


@pytest.mark.parametrize("signer", [HmacKey(SECRET), PAIR], ids=["hmac", "ed25519"])
def test_a_signature_is_verified_and_any_change_is_refused(manifest: Manifest, signer: Any) -> None:
    key = signer if isinstance(signer, HmacKey) else signer.public
    verifier = Verifier(keys=(key,), required=True)
    good = signed(manifest, signer)
    assert verifier.check(good) == "verified"
    assert good.signature is not None
    value = good.signature.value
    changes: list[dict[str, Any]] = [
        {"settings": {"k": 1}},
        {"created": "2020-01-01T00:00:00Z"},
        {"version": "1" * 32},
        {"files": {"weights.safetensors": FileEntry(sha256="1" * 64, size=8)}},
        {"signature": replace(good.signature, value=value[:-2])},
        {
            "signature": replace(
                good.signature, value=value[:-1] + ("0" if value[-1] != "0" else "1")
            )
        },
        {"signature": replace(good.signature, value="")},
        {"signature": replace(good.signature, value="not hex")},
    ]
    for change in changes:
        with pytest.raises(SignatureRefused, match="wrong"):
            verifier.check(replace(good, **change))


def test_an_ed25519_public_key_cannot_serve_as_an_hmac_secret(manifest: Manifest) -> None:
    """The classic confusion: the attacker knows the public key and signs with it as if it were a secret."""
    forged = signed(manifest, HmacKey(PAIR.public.raw))
    assert forged.signature is not None
    verifier = Verifier(keys=(PAIR.public,), required=True)
    for signature in (
        forged.signature,
        replace(forged.signature, key_id=PAIR.key_id),
        replace(forged.signature, key_id=PAIR.key_id, type="ed25519"),
    ):
        with pytest.raises(SignatureRefused):
            verifier.check(replace(manifest, signature=signature))


def test_the_type_is_bound_into_what_is_signed(manifest: Manifest) -> None:
    key = HmacKey(SECRET)

    class Renamed:
        """The same secret under another type's name."""

        type = "hmac-sha512"
        key_id = key.key_id
        verify = staticmethod(key.verify)

    made = signed(manifest, key)
    assert made.signature is not None
    relabelled = replace(made, signature=replace(made.signature, type="hmac-sha512"))
    with pytest.raises(SignatureRefused, match="wrong"):
        Verifier(keys=(Renamed(),)).check(relabelled)


def test_the_policy(manifest: Manifest) -> None:
    ours, other = signed(manifest, PAIR), signed(manifest, new_key())
    hmac_key = SECRET.hex()
    public = PAIR.public.raw.hex()
    nothing = verifier_from()
    assert nothing.check(manifest) == "unsigned"
    assert nothing.check(ours) == "unchecked"
    strict = verifier_from(public_key=public)
    assert strict.required, "a key without more asks for signatures"
    with pytest.raises(SignatureRefused, match="not signed"):
        strict.check(manifest)
    with pytest.raises(SignatureRefused, match=f"trusted: ed25519 {PAIR.key_id}"):
        strict.check(other)
    lenient = verifier_from(public_key=public, required=False)
    assert lenient.check(manifest) == "unsigned"
    with pytest.raises(SignatureRefused, match="not trusted"):
        lenient.check(other)
    both = verifier_from(public_key=public, hmac_key=hmac_key)
    assert both.check(ours) == "verified"
    assert both.check(signed(manifest, HmacKey(SECRET))) == "verified"
    with pytest.raises(SignatureRefused, match="no key is configured"):
        Verifier(required=True).check(ours)
    with pytest.raises(ConfigError, match=r"ROUTEIQ_ARTIFACT_REQUIRE_SIGNATURE.*no key"):
        verifier_from(required=True)


def test_keys_are_read_in_every_form(tmp_path: Path) -> None:
    raw = PAIR.public.raw
    pem, text = tmp_path / "key.pem", tmp_path / "key.txt"
    pem.write_bytes(public_pem(PAIR.public))
    text.write_text(f"{raw.hex()}\n")
    urlsafe = base64.urlsafe_b64encode(raw).decode()
    for form in (raw.hex(), raw.hex().upper(), base64.b64encode(raw).decode(), urlsafe, pem, text):
        assert verifier_from(public_key=str(form)).keys == (PAIR.public,)
    rotated = verifier_from(public_key=f"{raw.hex()}, {new_key().public.raw.hex()}")
    assert len(rotated.keys) == 2
    private = tmp_path / "private.pem"
    private.write_bytes(private_pem(PAIR))
    for form in (PAIR.seed.hex(), str(private)):
        assert signer_from(private_key=form) == PAIR
    assert signer_from(hmac_key=base64.b64encode(SECRET).decode()) == HmacKey(SECRET)


def test_what_is_no_key_is_named(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    curve = ec.generate_private_key(ec.SECP256R1())
    other = curve.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "ec.pem").write_bytes(other)
    (tmp_path / "broken.pem").write_bytes(b"-----BEGIN PUBLIC KEY-----\nx\n")
    (tmp_path / "private.pem").write_bytes(private_pem(PAIR))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"public_key": "zz"}, "neither hex"),
        ({"public_key": "00ff"}, "has 2 bytes"),
        ({"public_key": "/no/such/file.pem"}, "neither hex"),
        ({"public_key": str(tmp_path / "ec.pem")}, "not an ed25519"),
        ({"public_key": str(tmp_path / "broken.pem")}, "not PEM"),
        ({"hmac_key": "00" * 31}, "at least 32"),
        ({"hmac_key": str(tmp_path / "private.pem")}, "at least 32"),
    ]
    for arguments, says in cases:
        with pytest.raises(ConfigError, match=says):
            verifier_from(**arguments)
    with pytest.raises(ConfigError, match="seed has 32"):
        signer_from(private_key="00ff")
    with pytest.raises(ConfigError, match="one key"):
        signer_from()
    with pytest.raises(ConfigError, match="one key"):
        signer_from(private_key=PAIR.seed.hex(), hmac_key=SECRET.hex())


def test_secrets_are_not_shown() -> None:
    assert SECRET.hex() not in repr(HmacKey(SECRET))
    assert repr(SECRET) not in repr(HmacKey(SECRET))
    assert repr(PAIR.seed) not in repr(PAIR)


def test_without_the_package_the_extra_is_named(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = signed(manifest, PAIR)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    with pytest.raises(ConfigError, match=r"routeiq-router\[signing\]"):
        Verifier(keys=(PAIR.public,)).check(made)
    assert Verifier(keys=(HmacKey(SECRET),)).check(signed(manifest, HmacKey(SECRET))) == "verified"


def test_new_keys_differ() -> None:
    assert new_key() != new_key()
    assert len(new_key().seed) == 32


def test_signing_again_replaces_the_signature(manifest: Manifest) -> None:
    again = signed(signed(manifest, HmacKey(SECRET)), PAIR)
    assert isinstance(again.signature, Signature)
    assert Verifier(keys=(PAIR.public,)).check(again) == "verified"
