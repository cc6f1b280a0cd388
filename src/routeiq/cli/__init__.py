"""The `routeiq` command: one file a sub-command, each imported only when it is called."""

from __future__ import annotations

from routeiq.cli.main import main

__all__ = ["main"]
