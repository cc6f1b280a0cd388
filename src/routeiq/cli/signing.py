"""The options that sign what a command writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from routeiq.artifacts.artifact import Artifact
    from routeiq.artifacts.signature import Signer

Command = TypeVar("Command", bound=Callable[..., Any])


def signing_options(command: Command) -> Command:
    """`--private-key` and `--hmac-key`."""
    private = click.option(
        "--private-key", help="Sign with this ed25519 key: a PEM file, hex or base64."
    )
    return private(
        click.option("--hmac-key", help="Sign with this HMAC key: a file, hex or base64.")(command)
    )


def signer_of(private_key: str | None, hmac_key: str | None) -> Signer | None:
    """The signer that the options describe, `None` without any.

    Raises:
        ConfigError: both are given, or a key cannot be read.
    """
    if private_key is None and hmac_key is None:
        return None
    from routeiq.artifacts.signature import signer_from

    return signer_from(private_key=private_key, hmac_key=hmac_key)


def note_unsigned(before: Artifact, signer: Signer | None) -> None:
    """Say that a signature was lost: the new version is not what was signed."""
    if before.manifest.signature is not None and signer is None:
        click.echo(
            "note: the old version was signed; this one is not: sign it again, or give "
            "--private-key or --hmac-key.",
            err=True,
        )
