"""Where SQLite's file is, from DATABASE_URL."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from routeiq.exceptions import ConfigError, Problem

SQLITE = "sqlite"
POSTGRESQL = ("postgresql", "postgres")


def is_sqlite(url: str) -> bool:
    """Whether the URL names a SQLite file.

    Raises:
        ConfigError: it is for no database that we know.
    """
    scheme = url.partition("://")[0].lower().partition("+")[0] if "://" in url else ""
    if scheme == SQLITE:
        return True
    if scheme in POSTGRESQL:
        return False
    raise ConfigError(
        [
            Problem(
                key="DATABASE_URL",
                message=f"begins with {scheme[:20]!r}, which is no database of ours: "
                "neither PostgreSQL nor SQLite.",
                fix="Write postgresql://user:password@host/name or sqlite:///path/to/file.db.",
            )
        ]
    )


def sqlite_path(url: str) -> Path:
    """The file of `sqlite:///relative/path` or `sqlite:////absolute/path`, absolute.

    Raises:
        ConfigError: the URL has a host, or no path.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # half an IPv6 address
        parts = urlsplit("")
    path = unquote(parts.path)[1:]
    if parts.netloc or not path:
        raise ConfigError(
            [
                Problem(
                    key="DATABASE_URL",
                    message="names no file.",
                    fix="Write sqlite:///relative/path.db or sqlite:////absolute/path.db.",
                )
            ]
        )
    return Path(path).absolute()


def usable_sqlite_url(url: str, *, is_default: bool) -> tuple[str, str | None]:
    """The URL with an absolute path, and what to say about it if anything.

    A default that cannot be written (a container with a read-only root) becomes a file that is lost with the
    machine's temporary files: availability comes first, and the operator is told.

    Raises:
        ConfigError: a folder that the operator named cannot be written.
    """
    path = sqlite_path(url)
    folder = path.parent
    if writable(path):
        return f"sqlite:///{path}", None
    if not is_default:
        raise ConfigError(
            [
                Problem(
                    key="DATABASE_URL",
                    message=f"{str(path)!r} cannot be written.",
                    fix="Name a file in a folder that exists and that this user may write.",
                )
            ]
        )
    other = Path(tempfile.mkdtemp(prefix="routeiq-")) / path.name
    return f"sqlite:///{other}", (
        f"{str(folder)!r} cannot be written, so keys, decisions and control state are in {str(other)!r} and are "
        "lost when this process ends."
    )


def writable(path: Path) -> bool:
    """Whether the file can be opened for writing, or made."""
    return os.access(path if path.exists() else path.parent, os.W_OK)
