"""The size of the code is a feature: raising a number here is a reviewed line."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE_LIMIT = 400
PACKAGE_LIMIT = 10_000


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_source_or_test_file_is_longer_than_the_limit() -> None:
    files = [
        p for tree in ("src", "tests", "bench", "scripts") for p in (ROOT / tree).rglob("*.py")
    ]
    assert files
    too_long = {
        str(p.relative_to(ROOT)): n
        for p in files
        if "node_modules" not in p.parts and (n := lines(p)) > FILE_LIMIT
    }
    assert too_long == {}


def test_the_package_stays_within_its_budget() -> None:
    assert sum(lines(p) for p in (ROOT / "src").rglob("*.py")) <= PACKAGE_LIMIT
