"""The size of the code is a feature: raising a number here is a reviewed line.

The file limit counts every line. The package's budget counts code: docstrings, comments and blank lines are
free, because documentation must not compete with code for room (docs/adr/0002-layers.md).
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE_LIMIT = 400
PACKAGE_LIMIT = 40_000
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def docstring_lines(tree: ast.Module) -> set[int]:
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            found.update(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    return found


def code_lines(path: Path) -> int:
    text = path.read_text(encoding="utf-8")
    documentation = docstring_lines(ast.parse(text))
    return sum(
        1
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.strip().startswith("#") and number not in documentation
    )


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
    assert sum(code_lines(p) for p in (ROOT / "src").rglob("*.py")) <= PACKAGE_LIMIT


def test_what_counts_as_code(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(
        '"""Doc\n\nmore."""\n\n# comment\nX = 1\n\n\ndef f():\n    """Doc."""\n    return X\n'
    )
    assert code_lines(file) == 3
