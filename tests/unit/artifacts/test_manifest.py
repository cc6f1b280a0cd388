from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from routeiq.artifacts.errors import InvalidArtifact
from routeiq.artifacts.manifest import (
    FileEntry,
    Manifest,
    Signature,
    canonical,
    clashing,
    parse,
    safe_name,
)

ZEROS = "0" * 64


def manifest(**fields: Any) -> Manifest:
    made = Manifest(
        **{
            "strategy": "knn",
            "version": "",
            "created": "2027-01-15T08:00:00Z",
            "features": "static:1",
            "models": ("a", "b"),
            "data_sha256": ZEROS,
            "settings": {"k": 5},
            "metrics": {"aiq": 0.5},
            "certificates": [],
            "files": {"weights.safetensors": FileEntry(sha256=ZEROS, size=8)},
            **fields,
        }
    )
    return replace(made, version=made.content_version())


def changed(**fields: Any) -> bytes:
    """manifest.json with fields changed and the version made to fit, as an attacker would."""
    document = manifest().document() | fields
    document = {name: value for name, value in document.items() if value is not ...}
    plain = {k: v for k, v in document.items() if k not in ("version", "created", "signature")}
    if "version" not in fields:
        document["version"] = hashlib.sha256(
            json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()
        ).hexdigest()[:32]
    return json.dumps(document).encode()


def test_the_version_is_the_hash_of_the_canonical_content() -> None:
    text = (
        '{"certificates":[],"data_sha256":"Z","features":"static:1","files":{"weights.safetensors":'
        '{"sha256":"Z","size":8}},"metrics":{"aiq":0.5},"models":["a","b"],"schema":1,'
        '"settings":{"k":5},"strategy":"knn"}'
    ).replace("Z", ZEROS)
    assert manifest().version == hashlib.sha256(text.encode()).hexdigest()[:32]


def test_time_and_signature_do_not_change_the_version_and_everything_else_does() -> None:
    first = manifest()
    signature = Signature(type="ed25519", key_id="1", value="2")
    assert manifest(created="2030-01-01T00:00:00Z", signature=signature).version == first.version
    others = [
        manifest(strategy="mlp"),
        manifest(features="other"),
        manifest(models=("b", "a")),
        manifest(data_sha256="1" * 64),
        manifest(settings={"k": 6}),
        manifest(metrics={"aiq": 0.6}),
        manifest(certificates=[{"epsilon": 0.01}]),
        manifest(files={"weights.safetensors": FileEntry(sha256=ZEROS, size=9)}),
    ]
    assert len({first.version, *(other.version for other in others)}) == 9


def test_what_is_written_is_read_back() -> None:
    made = manifest(signature=Signature(type="ed25519", key_id="1", value="2"), models=("ä", "b"))
    assert parse(made.encoded()) == made


def test_canonical_form_is_sorted_and_dense_and_refuses_nan() -> None:
    assert canonical({"b": [1, 2.0], "a": "é"}) == b'{"a":"\xc3\xa9","b":[1,2.0]}'
    for value in (float("nan"), float("inf"), object(), "\ud800"):
        with pytest.raises(InvalidArtifact):
            canonical({"a": value})


WRONG: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"{", "not JSON"),
    "not an object": (b"[]", "not a JSON object"),
    "a name twice": (b'{"schema": 1, "schema": 1}', "twice"),
    "too long": (b" " * (5 << 20), "limit"),
    "later schema": (changed(schema=2), "schema 2"),
    "schema true": (changed(schema=True), "schema True"),
    "missing field": (changed(models=...), "lacks"),
    "extra field": (changed(code="x"), "code"),
    "wrong type": (changed(settings=[]), "settings is not a dict"),
    "strategy that is a path": (changed(strategy="../x"), "strategy's name"),
    "model twice": (changed(models=["a", "a"]), "models"),
    "model not text": (changed(models=[1]), "models"),
    "certificate not an object": (changed(certificates=[1]), "certificates"),
    "version not the content's": (changed(version="0" * 32), "was changed"),
    "infinite by overflow": (changed().replace(b"0.5", b"1e999"), "JSON compliant"),
    "no weights": (changed(files={}), "must name"),
    "manifest names itself": (
        changed(
            files={
                n: {"sha256": ZEROS, "size": 1} for n in ("weights.safetensors", "manifest.json")
            }
        ),
        "must name",
    ),
    "too many files": (
        changed(
            files={
                n: {"sha256": ZEROS, "size": 1}
                for n in ("weights.safetensors", *(f"f{i}" for i in range(64)))
            }
        ),
        "at most",
    ),
    "half a signature": (changed(signature={"type": "ed25519"}), "signature must have"),
    "signature of numbers": (
        changed(signature={"type": 1, "key_id": 2, "value": 3}),
        "must be text",
    ),
}


@pytest.mark.parametrize(("raw", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_manifest_is_refused(raw: bytes, says: str) -> None:
    with pytest.raises(InvalidArtifact, match=says):
        parse(raw)


@pytest.mark.parametrize(
    ("name", "entry", "says"),
    [
        ("../evil", {"sha256": ZEROS, "size": 1}, "called"),
        ("/etc/passwd", {"sha256": ZEROS, "size": 1}, "called"),
        ("a/../b", {"sha256": ZEROS, "size": 1}, "called"),
        (".hidden", {"sha256": ZEROS, "size": 1}, "called"),
        ("a\n", {"sha256": ZEROS, "size": 1}, "called"),
        ("a", {"sha256": ZEROS}, "sha256 and size"),
        ("a", 1, "sha256 and size"),
        ("a", {"sha256": "0" * 63, "size": 1}, "SHA-256"),
        ("a", {"sha256": ZEROS.replace("0", "A"), "size": 1}, "SHA-256"),
        ("a", {"sha256": ZEROS, "size": -1}, "size"),
        ("a", {"sha256": ZEROS, "size": True}, "size"),
        ("a", {"sha256": ZEROS, "size": 3 << 30}, "size"),
        ("a", {"sha256": ZEROS, "size": 2 << 30}, "together"),
        ("weights.safetensors/a", {"sha256": ZEROS, "size": 1}, "name of a folder"),
    ],
)
def test_a_wrong_file_entry_is_refused(name: str, entry: Any, says: str) -> None:
    files = {"weights.safetensors": {"sha256": ZEROS, "size": 8}, name: entry}
    with pytest.raises(InvalidArtifact, match=says):
        parse(changed(files=files))


def test_which_names_are_plain() -> None:
    for name in ("card.md", "plots/curve.svg", "a/b/c/d", "_x", "A-1_b.c"):
        assert safe_name(name), name
    for name in (
        "",
        ".",
        "..",
        "a/",
        "/a",
        "a//b",
        "a/.b",
        "a\\b",
        "ä",
        "a b",
        "a/b/c/d/e",
        "x" * 101,
    ):
        assert not safe_name(name), name


def test_a_name_that_is_also_a_folder_clashes() -> None:
    assert clashing(["a", "a/b"])
    assert clashing(["a/b/c", "a/b"])
    assert not clashing(["a", "b/a", "ab", "b/c"])
