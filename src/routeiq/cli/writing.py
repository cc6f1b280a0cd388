"""Writing what a command made into a file that was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write JSON for machines and people.

    Raises:
        ClickException: the file cannot be written.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file, and make the folders above it.

    Raises:
        ClickException: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error}") from error
