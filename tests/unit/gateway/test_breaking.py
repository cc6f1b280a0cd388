from __future__ import annotations

import pytest

from routeiq.config.model import RouterConfig
from routeiq.config.settings import Settings
from routeiq.gateway.breaking import cooldown_s, log_transition, threshold
from tests.support.worlds import config_of


@pytest.mark.parametrize(
    ("allowed", "setting", "found"), [(None, 5, 5), (0, 5, 1), (3, 5, 4), (9, 1, 10)]
)
def test_litellms_allowed_fails_are_still_fine(
    allowed: int | None, setting: int, found: int
) -> None:
    config = config_of(
        settings=Settings(cb_failure_threshold=setting), router=RouterConfig(allowed_fails=allowed)
    )
    assert threshold(config) == found


@pytest.mark.parametrize(
    ("cooldown", "setting", "found"), [(None, 30.0, 30.0), (5.0, 30.0, 5.0), (0.0, 30.0, 0.0)]
)
def test_litellms_cooldown_goes_before_the_setting(
    cooldown: float | None, setting: float, found: float
) -> None:
    config = config_of(
        settings=Settings(cb_timeout_seconds=setting), router=RouterConfig(cooldown_s=cooldown)
    )
    assert cooldown_s(config) == found


def test_each_change_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    log_transition("small-1", "closed", "open")
    (record,) = caplog.records
    assert record.getMessage() == "circuit breaker changed"
    found = (vars(record)["deployment"], vars(record)["from"], vars(record)["to"])
    assert found == ("small-1", "closed", "open")
