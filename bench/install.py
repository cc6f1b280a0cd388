"""Installing other gateways, each by itself, into a folder that nothing else uses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

PACKAGES = {
    "litellm": "litellm[proxy]==1.106.2",
    "tensorzero": "tensorzero==2026.6.0",
    "portkey": "@portkey-ai/gateway@1.15.2",
}


def install(folder: Path, names: Sequence[str], say: Callable[[str], None]) -> None:
    """Install them; versions are those that the published figures were measured with.

    Raises:
        subprocess.CalledProcessError: pip or npm failed; its output has been shown.
    """
    for name in names:
        home = folder / name
        say(f"installing {PACKAGES[name]} into {home}")
        home.mkdir(parents=True, exist_ok=True)
        if name == "portkey":
            options = ["--no-audit", "--no-fund", "--silent"]
            _do("npm", "install", "--prefix", str(home), *options, PACKAGES[name])
            continue
        _do(sys.executable, "-m", "venv", str(home))
        _do(str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", PACKAGES[name])


def _do(*argv: str) -> None:
    subprocess.run(argv, check=True)
