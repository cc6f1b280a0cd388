from __future__ import annotations

import pytest

from routeiq.exceptions import Conflict, StateUnavailable, StoreUnavailable
from routeiq.gateway.state_errors import unavailable

pytestmark = pytest.mark.anyio


async def raising(error: Exception | None) -> int:
    if error is not None:
        raise error
    return 7


async def test_a_store_that_is_down_is_a_503_without_its_address() -> None:
    with pytest.raises(StateUnavailable) as raised:
        await unavailable(raising(StoreUnavailable("db.internal:5432 refused")))
    assert raised.value.status == 503
    assert raised.value.retry_after_s == 1.0
    assert "internal" not in raised.value.message
    assert isinstance(raised.value.__cause__, StoreUnavailable), "the log has the reason"


async def test_all_else_passes() -> None:
    assert await unavailable(raising(None)) == 7
    with pytest.raises(Conflict):
        await unavailable(raising(Conflict("taken")))
