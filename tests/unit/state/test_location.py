from __future__ import annotations

import os
from pathlib import Path

import pytest

from routeiq.exceptions import ConfigError
from routeiq.state.location import is_sqlite, sqlite_path, usable_sqlite_url, writable


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("sqlite:///a.db", True),
        ("SQLite:///a.db", True),
        ("sqlite+pysqlite:///a.db", True),
        ("postgresql://h/d", False),
        ("postgres://h/d", False),
        ("postgresql+psycopg://h/d", False),
    ],
)
def test_which_database_a_url_is_for(url: str, found: bool) -> None:
    assert is_sqlite(url) is found


@pytest.mark.parametrize(
    "url", ["", "routeiq.db", "mysql://h/d", "p4ssword-of-mine", "p4ssword:x@h/d", "://x", "[::1"]
)
def test_what_is_for_none_that_we_know_is_said_without_it(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        is_sqlite(url)
    (problem,) = raised.value.problems
    assert problem.key == "DATABASE_URL"
    assert "p4ssword" not in str(problem)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/lib/a.db", "/var/lib/a.db"),
        ("sqlite:////a%20b/c.db", "/a b/c.db"),
        ("sqlite:////a.db?mode=rw", "/a.db"),
    ],
)
def test_absolute_paths(url: str, path: str) -> None:
    assert sqlite_path(url) == Path(path)


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sqlite_path("sqlite:///data/a.db") == tmp_path / "data" / "a.db"


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite://host/a.db", "sqlite://[::1/a.db"]
)
def test_what_names_no_file(url: str) -> None:
    with pytest.raises(ConfigError, match="names no file"):
        sqlite_path(url)


@pytest.mark.parametrize("is_default", [True, False])
def test_a_file_that_can_be_written_is_used_as_it_is(tmp_path: Path, is_default: bool) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    assert usable_sqlite_url(url, is_default=is_default) == (url, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="shows what is refused to root too: a missing folder")
def test_a_folder_that_is_not_there_cannot_be_written(tmp_path: Path) -> None:
    assert not writable(tmp_path / "none" / "a.db")
    assert writable(tmp_path / "a.db")


def test_a_named_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        usable_sqlite_url(f"sqlite:///{tmp_path}/none/a.db", is_default=False)


def test_a_default_that_cannot_be_written_goes_elsewhere_and_says_so(tmp_path: Path) -> None:
    url, said = usable_sqlite_url(f"sqlite:///{tmp_path}/none/a.db", is_default=True)
    path = sqlite_path(url)
    assert path.name == "a.db"
    assert writable(path)
    assert said is not None
    assert "lost" in said
    assert str(path) in said
    other, _ = usable_sqlite_url(f"sqlite:///{tmp_path}/none/a.db", is_default=True)
    assert other != url, "two gateways do not share a file by accident"
    for one in (path, sqlite_path(other)):
        one.parent.rmdir()
