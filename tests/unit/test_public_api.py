"""`__all__` is what is visible, and everything in it can be loaded."""

from __future__ import annotations

import routeiq


def test_every_public_name_loads() -> None:
    for name in routeiq.__all__:
        assert getattr(routeiq, name) is not None


def test_dir_shows_the_public_names_and_nothing_else() -> None:
    assert dir(routeiq) == sorted(routeiq.__all__)


def test_unknown_name_raises_attribute_error() -> None:
    assert not hasattr(routeiq, "no_such_name")
