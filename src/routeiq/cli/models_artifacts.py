"""`routeiq models verify|sign|keygen|stage|promote|rollback|list|pull`: artifacts, without a gateway."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from routeiq.artifacts.manifest import Manifest
    from routeiq.artifacts.signature import Verifier
    from routeiq.artifacts.store import ArtifactStore

Command = TypeVar("Command", bound=Callable[..., Any])
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_store = click.option(
    "--store",
    "store_path",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="ROUTEIQ_MODELS_PATH",
    show_envvar=True,
    default="/app/models",
    show_default=True,
    help="Folder of trained artifacts.",
)
_secret = click.option(
    "--hmac-key",
    envvar="ROUTEIQ_ARTIFACT_HMAC_KEY",
    show_envvar=True,
    help="Shared secret of at least 32 bytes: hex, base64, or a file with that.",
)


def _keys(command: Command) -> Command:
    """The options that make a verifier."""
    public = click.option(
        "--public-key",
        envvar="ROUTEIQ_ARTIFACT_PUBLIC_KEY",
        show_envvar=True,
        help="Trusted ed25519 public key: hex, base64, or a file (PEM too); several by commas.",
    )
    required = click.option(
        "--require-signature/--allow-unsigned",
        "required",
        default=None,
        envvar="ROUTEIQ_ARTIFACT_REQUIRE_SIGNATURE",
        show_envvar=True,
        help="Refuse unsigned artifacts; by default they are refused if there is any key.",
    )
    return public(_secret(required(command)))


@click.command()
@click.argument("folder", type=_FOLDER)
@_keys
@_as_json
def verify(
    folder: Path,
    public_key: str | None,
    hmac_key: str | None,
    required: bool | None,
    as_json: bool,
) -> None:
    """Check an artifact's files and its signature.

    Exit code 1 and the reason if it would be refused.
    """
    from routeiq.artifacts.artifact import open_artifact

    artifact = open_artifact(folder, verifier=_verifier(public_key, hmac_key, required))
    facts = _facts(artifact.manifest) | {"signature": artifact.signature}
    _say(facts, as_json, f"{folder}: whole, signature {artifact.signature}")


@click.command()
@click.argument("folder", type=_FOLDER)
@click.option("--key", "private_key", help="ed25519 private key: a PEM file, or the seed in hex.")
@_secret
@_as_json
def sign(folder: Path, private_key: str | None, hmac_key: str | None, as_json: bool) -> None:
    """Sign an artifact with an ed25519 or an HMAC key; an earlier signature is replaced."""
    from routeiq.artifacts.artifact import sign_artifact
    from routeiq.artifacts.signature import signer_from

    # A secret that happens to be in the environment does not stand in the way of an explicit key.
    signer = signer_from(private_key=private_key, hmac_key=None if private_key else hmac_key)
    manifest = sign_artifact(folder, signer)
    _say(_facts(manifest), as_json, f"{folder}: signed by {signer.type} key {signer.key_id}")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_as_json
def keygen(file: Path, as_json: bool) -> None:
    """Make an ed25519 key pair: the private key into FILE, the public one into FILE.pub."""
    from routeiq.artifacts.signature import new_key, private_pem, public_pem

    key = new_key()
    public = file.with_name(f"{file.name}.pub")
    _create(file, private_pem(key), 0o600)
    _create(public, public_pem(key.public), 0o644)
    facts = {
        "key_id": key.key_id,
        "private_key": str(file),
        "public_key": str(public),
        "public_key_hex": key.public.raw.hex(),
    }
    text = (
        f"key {key.key_id}: sign with --key {file}\n"
        f"ROUTEIQ_ARTIFACT_PUBLIC_KEY={facts['public_key_hex']}"
    )
    _say(facts, as_json, text)


@click.command()
@click.argument("folder", type=_FOLDER)
@_store
@_keys
@_as_json
def stage(
    folder: Path,
    store_path: Path,
    public_key: str | None,
    hmac_key: str | None,
    required: bool | None,
    as_json: bool,
) -> None:
    """Check an artifact and copy it into the store; nothing uses it before it is promoted."""
    verifier = _verifier(public_key, hmac_key, required)
    version = _open(store_path).stage(folder, verifier=verifier)
    _say({"version": version}, as_json, f"staged {version}")


@click.command()
@click.argument("version")
@_store
@_keys
@_as_json
def promote(
    version: str,
    store_path: Path,
    public_key: str | None,
    hmac_key: str | None,
    required: bool | None,
    as_json: bool,
) -> None:
    """Make a staged VERSION (or the start of it) the one its strategy uses.

    Running gateways take it over within a second or so, without a restart.
    """
    from routeiq.artifacts.artifact import open_artifact

    store = _open(store_path)
    version = store.resolve(version)
    strategy = open_artifact(store.folder(version)).manifest.strategy
    state = store.promote(strategy, version, verifier=_verifier(public_key, hmac_key, required))
    facts = {"strategy": strategy, **asdict(state)}
    before = state.previous[0] if state.previous else "none"
    _say(facts, as_json, f"{strategy}: {version} is active, before it {before}")


@click.command()
@click.argument("strategy")
@_store
@_as_json
def rollback(strategy: str, store_path: Path, as_json: bool) -> None:
    """Go back to the version that STRATEGY used before.

    The version that is left is not taken again by a sync, only by `promote`.
    """
    state = _open(store_path).rollback(strategy)
    text = (
        f"{strategy}: {state.version or 'the plain folder'} is active, {state.withdrawn[0]} is not"
    )
    _say({"strategy": strategy, **asdict(state)}, as_json, text)


@click.command(name="list")
@_store
@_as_json
def list_(store_path: Path, as_json: bool) -> None:
    """List the versions in the store."""
    lines = [asdict(line) for line in _open(store_path).listing()]
    text = "\n".join(
        f"{line['state']:<10} {line['strategy']:<12} {line['version']} {line['created']:<20} "
        f"{line['size'] / 1e6:7.1f} MB  {'key ' + line['key_id'] if line['key_id'] else 'unsigned'}"
        + (f"  {line['problem']}" if line["problem"] else "")
        for line in lines
    )
    _say({"versions": lines}, as_json, text or f"no version is staged in {store_path}")


@click.command()
@click.argument("uri", envvar="ROUTEIQ_MODEL_S3_URI")
@_store
@_keys
@_as_json
def pull(
    uri: str,
    store_path: Path,
    public_key: str | None,
    hmac_key: str | None,
    required: bool | None,
    as_json: bool,
) -> None:
    """Fetch the artifact at URI once, check, stage and promote it.

    URI is a folder, s3://bucket/prefix or gs://bucket/prefix, by default ROUTEIQ_MODEL_S3_URI. A gateway that
    has that setting does the same all the time by itself.
    """
    from routeiq.artifacts.sources import source_from
    from routeiq.artifacts.sync import Syncer

    source = source_from(uri, environ=os.environ)
    syncer = Syncer(_open(store_path), source, verifier=_verifier(public_key, hmac_key, required))
    promoted = syncer.check()
    syncer.close()
    status = syncer.status()
    if status["skipped"]:
        raise click.ClickException("another process is fetching into this store right now.")
    if status["last_error"]:
        raise click.ClickException(f"{status['last_error']} What is active has not changed.")
    what = "is active now" if promoted else "was there before: nothing changed"
    _say(status | {"promoted": promoted}, as_json, f"{status['version']} {what}")


def _open(path: Path) -> ArtifactStore:
    from routeiq.artifacts.store import ArtifactStore

    return ArtifactStore(path)


def _verifier(public_key: str | None, hmac_key: str | None, required: bool | None) -> Verifier:
    from routeiq.artifacts.signature import verifier_from

    return verifier_from(public_key=public_key, hmac_key=hmac_key, required=required)


def _facts(manifest: Manifest) -> dict[str, Any]:
    return {
        "strategy": manifest.strategy,
        "version": manifest.version,
        "created": manifest.created,
        "features": manifest.features,
        "models": list(manifest.models),
        "size": manifest.size,
        "key_id": manifest.signature.key_id if manifest.signature else "",
    }


def _create(path: Path, data: bytes, mode: int) -> None:
    """A new file with its rights from the start; a key is never overwritten."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be made: {error.strerror}.") from error
    with open(descriptor, "wb") as file:
        file.write(data)


def _say(facts: dict[str, Any], as_json: bool, text: str) -> None:
    click.echo(json.dumps(facts, indent=2) if as_json else text)
