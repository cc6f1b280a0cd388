"""Golden cases of configurations: a YAML file, a line of dashes, and what is to be said about it.

After a deliberate change of words: `python -m tests.support.golden` writes the second half anew; read the diff.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from routeiq.config.loader import inspect_config

DATA = Path(__file__).parent.parent / "data" / "config"
SEPARATOR = "# ----------\n"
ENVIRON: Mapping[str, str] = {
    "OPENAI_API_KEY": "sk-secret-of-the-environment",
    "AZURE_API_KEY": "sk-secret-of-azure",
    "AZURE_API_BASE": "https://azure.example.com",
    "GROQ_API_KEY": "sk-secret-of-groq",
    "ANTHROPIC_API_KEY": "sk-secret-of-anthropic",
    "PROXY_KEY": "sk-secret-of-the-proxy",
}


def cases(folder: str) -> list[str]:
    """The golden files of one folder, as paths relative to `DATA`."""
    return sorted(str(path.relative_to(DATA)) for path in (DATA / folder).glob("*.yaml"))


def said(case: str) -> str:
    """What is said now, as it stands in a golden file. Paths are relative to `DATA`."""
    _, problems = inspect_config(case, ENVIRON)
    return "".join(f"# {p.severity}: {p}\n" for p in problems) or "# nothing to say\n"


def expected(case: str) -> str:
    """What the golden file expects."""
    return (DATA / case).read_text().partition(SEPARATOR)[2]


def rewrite() -> None:
    """Write every expectation anew."""
    os.chdir(DATA)
    for case in [*cases("problems"), *cases("examples")]:
        text = Path(case).read_text().partition(SEPARATOR)[0].rstrip("\n")
        Path(case).write_text(f"{text}\n{SEPARATOR}{said(case)}")


if __name__ == "__main__":
    rewrite()
