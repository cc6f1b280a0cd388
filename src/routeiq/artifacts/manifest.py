"""The manifest: what a trained strategy is, what it was trained on, and the hash of each of its files.

Canonical form = JSON with sorted names, no spaces, UTF-8, no NaN. The version is derived from the content, so that
training again with the same data and seed gives the same version; the time and the signature are not part of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from . import strict_json
from .errors import InvalidArtifact

SCHEMA = 1
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
MAX_MANIFEST = 4 << 20
MAX_FILES = 64
MAX_BYTES = 2 << 30
VERSION_LENGTH = 32
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}){0,3}")
_STRATEGY = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_VERSION = re.compile(rf"[0-9a-f]{{{VERSION_LENGTH}}}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TYPES: Mapping[str, type] = {
    "strategy": str,
    "version": str,
    "created": str,
    "features": str,
    "models": list,
    "data_sha256": str,
    "settings": dict,
    "metrics": dict,
    "certificates": list,
    "files": dict,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of the artifact: its size in bytes and the SHA-256 of its content in hex."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Who vouches for the manifest: `type` is ed25519 or hmac-sha256, `value` in hex."""

    type: str
    key_id: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an artifact says about itself. `settings`, `metrics` and `certificates` are plain JSON.

    `features` is the fingerprint of the features it was trained on, `models` the model ids in the order of the
    arrays' columns, `data_sha256` the hash of the training data, `created` an ISO 8601 time in UTC.
    """

    schema: int = SCHEMA
    strategy: str
    version: str
    created: str
    features: str
    models: tuple[str, ...]
    data_sha256: str
    settings: dict[str, Any]
    metrics: dict[str, Any]
    certificates: list[dict[str, Any]]
    files: dict[str, FileEntry]
    signature: Signature | None = None

    @property
    def size(self) -> int:
        """Bytes of all files together, the manifest not counted."""
        return sum(entry.size for entry in self.files.values())

    def document(self) -> dict[str, Any]:
        """The manifest as plain JSON values."""
        names = ("strategy", "version", "created", "features", "data_sha256")
        document: dict[str, Any] = {name: getattr(self, name) for name in names}
        document |= {"schema": self.schema, "models": list(self.models)}
        document |= {"settings": self.settings, "metrics": self.metrics}
        document["certificates"] = self.certificates
        document["files"] = {
            name: {"sha256": entry.sha256, "size": entry.size} for name, entry in self.files.items()
        }
        if self.signature is not None:
            signature = self.signature
            document["signature"] = {
                "type": signature.type,
                "key_id": signature.key_id,
                "value": signature.value,
            }
        return document

    def content_version(self) -> str:
        """The version that this content has: the start of a SHA-256."""
        document = self.document()
        for name in ("version", "created", "signature"):
            document.pop(name, None)
        return hashlib.sha256(canonical(document)).hexdigest()[:VERSION_LENGTH]

    def encoded(self) -> bytes:
        """The text of manifest.json, for people as well."""
        document = self.document()
        text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        return text.encode() + b"\n"


def canonical(document: Mapping[str, Any]) -> bytes:
    """The bytes that are hashed and signed.

    Raises:
        InvalidArtifact: a value that JSON has no form for, NaN and infinity included.
    """
    try:
        text = json.dumps(
            document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArtifact(
            f"the manifest cannot be written: {error}. Leave figures out that are not finite."
        ) from error


def safe_name(name: str) -> bool:
    """Whether a file of an artifact may be called so: plain letters, at most three folders, no dots in front."""
    return _NAME.fullmatch(name) is not None


def clashing(names: Iterable[str]) -> bool:
    """Whether a name is also a folder of another one."""
    files = set(names)
    return any(str(folder) in files for name in files for folder in PurePosixPath(name).parents)


def strategy_name(name: str) -> bool:
    """Whether a strategy may be called so; it becomes the name of a folder."""
    return _STRATEGY.fullmatch(name) is not None


def version_name(name: str) -> bool:
    """Whether the text is a whole version."""
    return _VERSION.fullmatch(name) is not None


def parse(raw: bytes) -> Manifest:
    """Read manifest.json; its content, but not its signature, is checked.

    Raises:
        InvalidArtifact: not JSON, another schema, a field that is missing, too many or of the wrong type,
            a file name that could leave the folder, or a version that is not the content's.
    """
    if len(raw) > MAX_MANIFEST:
        raise InvalidArtifact(f"manifest.json has {len(raw)} bytes; the limit is {MAX_MANIFEST}.")
    try:
        document = strict_json.loads(raw)
    except ValueError as error:
        raise InvalidArtifact(f"manifest.json is not JSON: {error}.") from error
    manifest = _manifest(document)
    if (expected := manifest.content_version()) != manifest.version:
        raise InvalidArtifact(
            f"manifest.json was changed: it says version {manifest.version!r:.80}, "
            f"its content is version {expected}."
        )
    return manifest


def _manifest(document: Any) -> Manifest:
    if not isinstance(document, dict):
        raise InvalidArtifact("manifest.json is not a JSON object.")
    if type(document.get("schema")) is not int or document["schema"] != SCHEMA:
        raise InvalidArtifact(
            f"manifest.json has schema {document.get('schema')!r:.40}; this version reads {SCHEMA}."
        )
    if wrong := (document.keys() ^ {"schema", *_TYPES}) - {"signature"}:
        raise InvalidArtifact(f"manifest.json lacks or should not have {sorted(wrong)}.")
    for name, kind in _TYPES.items():
        if not isinstance(document[name], kind):
            raise InvalidArtifact(f"manifest.json: {name} is not a {kind.__name__}.")
    models, certificates = document["models"], document["certificates"]
    if not all(isinstance(m, str) and m for m in models) or len(set(models)) != len(models):
        raise InvalidArtifact("manifest.json: models must be different names.")
    if not all(isinstance(item, dict) for item in certificates):
        raise InvalidArtifact("manifest.json: each of certificates must be an object.")
    if not strategy_name(document["strategy"]):
        raise InvalidArtifact(f"manifest.json: {document['strategy']!r:.80} is no strategy's name.")
    plain = {name: document[name] for name in _TYPES} | {"models": tuple(models)}
    plain["files"] = _files(document["files"])
    return Manifest(**plain, signature=_signature(document.get("signature")))


def _files(listed: dict[str, Any]) -> dict[str, FileEntry]:
    if WEIGHTS not in listed or MANIFEST in listed or len(listed) > MAX_FILES:
        raise InvalidArtifact(
            f"manifest.json: files must name {WEIGHTS}, not {MANIFEST}, at most {MAX_FILES}."
        )
    files = {}
    for name, entry in listed.items():
        if not safe_name(name):
            raise InvalidArtifact(f"manifest.json: a file cannot be called {name!r:.80}.")
        if not isinstance(entry, dict) or entry.keys() != {"sha256", "size"}:
            raise InvalidArtifact(f"manifest.json: file {name!r} must have sha256 and size only.")
        sha256, size = entry["sha256"], entry["size"]
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise InvalidArtifact(f"manifest.json: file {name!r} has no SHA-256.")
        if type(size) is not int or not 0 <= size <= MAX_BYTES:
            raise InvalidArtifact(f"manifest.json: file {name!r} has the size {size!r:.40}.")
        files[name] = FileEntry(sha256=sha256, size=size)
    if clashing(files):
        raise InvalidArtifact("manifest.json: a file has the name of a folder.")
    if sum(entry.size for entry in files.values()) > MAX_BYTES:
        raise InvalidArtifact(f"manifest.json: the files together exceed {MAX_BYTES} bytes.")
    return files


def _signature(value: Any) -> Signature | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.keys() != {"type", "key_id", "value"}:
        raise InvalidArtifact("manifest.json: signature must have type, key_id and value only.")
    if not all(isinstance(part, str) and len(part) <= 1024 for part in value.values()):
        raise InvalidArtifact("manifest.json: the parts of signature must be text.")
    return Signature(**value)
