"""What is no Python but must be in the wheel: nothing in the build's or git's rules hides it."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "routeiq"
STATIC = PACKAGE / "embeddings" / "data" / "static"
LARGEST = 10 * 2**20
"""Bytes of the embedding table at most: it is in every wheel and every image."""
ARRAYS = ("offsets.npy", "reach.npy", "scales.npy", "slots.npy", "table.npy", "words.npy")


def hatch() -> dict[str, Any]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found: dict[str, Any] = project["tool"]["hatch"]["build"]
    return found


def ignored() -> list[str]:
    """Patterns of .gitignore: hatchling leaves out of the wheel what git ignores."""
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def hides(pattern: str, path: str) -> bool:
    """Whether a pattern of .gitignore matches this path or a folder above it."""
    anchored = "/" in pattern.rstrip("/")
    folders_only = pattern.endswith("/")
    wanted = pattern.strip("/")
    parts = path.split("/")
    for end in range(1, len(parts) + 1):
        if folders_only and end == len(parts):
            continue
        name = "/".join(parts[:end]) if anchored else parts[end - 1]
        if fnmatch(name, wanted):
            return True
    return False


def data_files() -> list[str]:
    return sorted(
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    )


def test_the_embedding_table_is_in_the_package_and_small_enough() -> None:
    sizes = {path.name: path.stat().st_size for path in STATIC.glob("*.npy")}
    assert tuple(sorted(sizes)) == ARRAYS
    assert 0 < sum(sizes.values()) <= LARGEST


def test_it_is_found_as_a_resource() -> None:
    place = files("routeiq.embeddings").joinpath("data", "static", "table.npy")
    assert place.read_bytes()[:6] == b"\x93NUMPY"


def test_the_wheel_takes_the_whole_package() -> None:
    build = hatch()
    wheel = build["targets"]["wheel"]
    assert wheel["packages"] == ["src/routeiq"]
    for rules in (build, wheel):  # `packages` takes every file; any of these could leave some out
        assert not {"exclude", "include", "only-include", "only-packages"} & set(rules)


def test_the_source_archive_has_what_the_wheel_is_built_from() -> None:
    sdist = hatch()["targets"]["sdist"]
    assert "src" in sdist["include"]
    assert "exclude" not in sdist


@pytest.mark.parametrize("path", data_files())
def test_git_ignores_no_data_of_the_package(path: str) -> None:
    assert [pattern for pattern in ignored() if hides(pattern, path)] == []


@pytest.mark.parametrize(
    ("pattern", "path", "hidden"),
    [
        ("*.npy", "src/a/x.npy", True),
        ("data/", "src/data/x.npy", True),
        ("/data", "src/data/x.npy", False),
        ("src/a", "src/a/x.npy", True),
        ("x.npy/", "src/a/x.npy", False),
        ("*.db", "src/a/x.npy", False),
        ("/bench/results/", "bench/results/x.json", True),
    ],
)
def test_what_hides_a_file(pattern: str, path: str, hidden: bool) -> None:
    assert hides(pattern, path) is hidden
