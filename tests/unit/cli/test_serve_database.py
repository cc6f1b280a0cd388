from __future__ import annotations

from pathlib import Path

import pytest

from routeiq.cli.serve import with_database
from routeiq.config.model import Config
from routeiq.config.settings import Settings
from routeiq.exceptions import ConfigError


def config(url: str, environ: dict[str, str] | None = None) -> Config:
    return Config(settings=Settings(database_url=url), environ=environ or {})


def test_the_default_file_is_where_the_gateway_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Absolute, so that workers and commands mean the same file."""
    monkeypatch.chdir(tmp_path)
    found, notes = with_database(config("sqlite:///routeiq.db"))
    assert found.settings.database_url == f"sqlite:///{tmp_path}/routeiq.db"
    assert notes == []


@pytest.mark.parametrize("named", [True, False])
def test_a_folder_that_cannot_be_written(tmp_path: Path, named: bool) -> None:
    url = f"sqlite:///{tmp_path}/none/a.db"
    one = config(url, {"DATABASE_URL": url if named else " "})
    if named:
        with pytest.raises(ConfigError, match="DATABASE_URL"):
            with_database(one)
        return
    found, (note,) = with_database(one)
    assert found.settings.database_url != url
    assert (note.key, note.severity) == ("DATABASE_URL", "warning")
    Path(found.settings.database_url.removeprefix("sqlite:///")).parent.rmdir()


@pytest.mark.parametrize("url", ["postgresql://h/d", "postgres://h/d"])
def test_a_server_is_left_as_it_is(url: str) -> None:
    one = config(url, {"DATABASE_URL": url})
    assert with_database(one) == (one, [])


def test_what_no_worker_could_open_is_refused_before_there_are_any() -> None:
    with pytest.raises(ConfigError, match="no database"):
        with_database(config("mysql://h/d"))
