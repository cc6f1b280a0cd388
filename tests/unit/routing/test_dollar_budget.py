from __future__ import annotations

from collections.abc import Callable
from math import exp
from random import Random

import pytest

from routeiq.config.section import Budget
from routeiq.routing.budget import (
    GAIN,
    LOG_START,
    WINDOW,
    BudgetController,
    Budgets,
    budgets_for,
)
from tests.support.clock import FakeClock

DAY = 86_400.0
CHEAP, DEAR = 0.001, 0.01


def traffic(
    controller: BudgetController,
    requests: int,
    *,
    cheap: float = CHEAP,
    dear: float = DEAR,
    under_way: int = 0,
    before: Callable[[], None] = lambda: None,
    seed: int = 1,
) -> list[float]:
    """What requests cost whose gain from the dear model is spread evenly over 0 to 0.4 quality."""
    random, pending, costs = Random(seed), [], []
    for _ in range(requests):
        before()
        choice = dear if 0.4 * random.random() > controller.weight() * (dear - cheap) else cheap
        controller.commit(choice)
        cost = choice * random.uniform(0.6, 1.4)
        pending.append((cost, choice))
        costs.append(cost)
        if len(pending) > under_way:
            controller.settle(*pending.pop(0))
    for one in pending:
        controller.settle(*one)
    return costs


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("under_way", [0, 100])
def test_mean_cost_meets_the_target_within_half_a_percent(share: float, under_way: int) -> None:
    target = CHEAP + share * (DEAR - CHEAP)
    controller = BudgetController(target, clock=FakeClock())
    costs = traffic(controller, 6000, under_way=under_way)
    assert sum(costs) / len(costs) == pytest.approx(target, rel=0.005)


def test_first_weight_and_its_move_by_hand() -> None:
    controller = BudgetController(0.01, clock=FakeClock(), base_weight=3.0)
    assert controller.weight() == pytest.approx(3.0 + exp(LOG_START) / 0.01)
    controller.commit(0.04)  # three requests' worth too much
    level = LOG_START - GAIN**2 / 8.0 / WINDOW**2 * 1.0
    assert controller.weight() == pytest.approx(
        3.0 + exp(level + GAIN * 3.0 / WINDOW) / 0.01, rel=1e-9
    )
    controller.settle(0.01, committed_usd=0.04)  # it was as cheap as it should be
    assert controller.weight() == pytest.approx(3.0 + exp(level) / 0.01, rel=1e-9)


def test_settling_what_was_never_committed_counts_the_request() -> None:
    one, other = (BudgetController(0.01, clock=FakeClock()) for _ in range(2))
    one.settle(0.02)
    other.commit(0.02)
    other.settle(0.02, committed_usd=0.02)
    assert one.weight() == other.weight()
    assert one.report()["requests"] == 1


def test_a_choice_that_is_the_same_for_every_prompt_is_mixed_to_the_target() -> None:
    controller = BudgetController(0.004, clock=FakeClock())
    costs = []
    for _ in range(6000):
        choice = DEAR if controller.weight() * (DEAR - CHEAP) < 0.2 else CHEAP
        controller.commit(choice)
        costs.append(choice)
    assert sum(costs) / len(costs) == pytest.approx(0.004, rel=0.005)


def test_free_models_and_a_budget_that_is_never_needed_leave_the_base_weight() -> None:
    controller = BudgetController(0.01, clock=FakeClock(), base_weight=20.0)
    for _ in range(3000):
        controller.settle(0.0)
    assert controller.weight() == pytest.approx(20.0, abs=0.2)


def test_a_target_out_of_reach_is_not_paid_back_for_ever() -> None:
    controller = BudgetController(0.01, clock=FakeClock())
    for _ in range(50_000):
        controller.settle(0.05)
    strict = controller.weight()
    for _ in range(8 * WINDOW * 10):
        controller.settle(0.001)
    assert controller.weight() < strict / 1000


def period(clock: FakeClock, **more: float) -> BudgetController:
    return BudgetController(
        more.get("usd", 20.0), clock=clock, period_s=DAY, workers=int(more.get("workers", 1))
    )


def test_an_amount_per_day_is_spent_by_the_end_of_each_day() -> None:
    clock = FakeClock()
    controller = period(clock)
    random, spent, day = Random(2), [0.0], 0

    def wait() -> None:
        clock.advance(random.expovariate(5000 / DAY))

    start = clock.now
    while day < 3:
        cost = traffic(controller, 1, before=wait, seed=random.getrandbits(30))[0]
        if (clock.now - start) // DAY > day:
            day += 1
            spent.append(0.0)
        spent[day] += cost
    assert spent[:3] == pytest.approx([20.0] * 3, rel=0.01)


def test_a_burst_may_not_eat_the_whole_day() -> None:
    clock = FakeClock()
    controller = period(clock)
    clock.advance(3600.0)
    costs = traffic(controller, 20_000, cheap=1e-6, dear=0.01, before=lambda: clock.advance(0.001))
    assert 0.5 < sum(costs) < 16.0


def test_a_spent_budget_leaves_only_the_cheapest() -> None:
    clock = FakeClock()
    controller = period(clock, usd=1.0)
    clock.advance(100.0)
    controller.settle(1.5)
    assert controller.weight() * (DEAR - CHEAP) > 10.0  # far more than any gain in quality
    clock.advance(DAY)
    controller.settle(0.0)
    assert controller.weight() * (DEAR - CHEAP) < 1.0
    assert controller.report()["spent_usd"] == 0.0


def test_workers_share_the_amount_of_a_period() -> None:
    assert period(FakeClock(), workers=4).report()["usd"] == 5.0
    one = BudgetController(0.01, clock=FakeClock(), workers=4)
    assert one.report()["usd"] == 0.01


def test_wall_clock_jumps_change_nothing_while_running() -> None:
    one, other = FakeClock(), FakeClock()
    steady, jumpy = period(one), period(other)
    for number in range(200):
        for clock, controller in ((one, steady), (other, jumpy)):
            clock.advance(5.0)
            controller.settle(0.003)
        other.wall_offset += 1e6 if number % 2 else -1e6
    assert jumpy.report() == steady.report()


def test_a_restart_goes_on_where_it_left_off() -> None:
    clock = FakeClock()
    before = period(clock)
    for _ in range(500):
        clock.advance(20.0)
        before.settle(0.003)
    state = before.snapshot()
    later = FakeClock(monotonic=5.0, wall=clock.wall() + 600.0)
    after = period(later)
    after.restore(state)
    report = after.report()
    assert report["spent_usd"] == pytest.approx(1.5)
    assert report["elapsed_s"] == pytest.approx(500 * 20.0 + 600.0)
    assert report["surplus_requests"] == before.report()["surplus_requests"]


def test_a_wall_clock_that_went_back_meanwhile_costs_no_time() -> None:
    clock = FakeClock()
    before = period(clock)
    clock.advance(100.0)
    before.settle(0.1)
    after = period(FakeClock(wall=clock.wall() - 1e6))
    after.restore(before.snapshot())
    assert after.report()["elapsed_s"] == 100.0


def test_a_restart_days_later_begins_a_new_period() -> None:
    clock = FakeClock()
    before = period(clock)
    before.settle(19.0)
    after = period(FakeClock(wall=clock.wall() + 3.5 * DAY))
    after.restore(before.snapshot())
    assert after.report()["spent_usd"] == 0.0
    assert after.report()["elapsed_s"] == pytest.approx(0.5 * DAY)


def test_another_target_drops_what_was_saved() -> None:
    before = BudgetController(0.01, clock=FakeClock())
    for _ in range(100):
        before.settle(0.001)
    after = BudgetController(0.02, clock=FakeClock())
    after.restore(before.snapshot())
    assert after.report()["surplus_requests"] == 0.0


@pytest.mark.parametrize("broken", [{}, {"level": float("nan")}, {"counts": [1]}, {"usd": "x"}])
def test_a_broken_snapshot_is_refused_and_changes_nothing(broken: dict[str, object]) -> None:
    controller = BudgetController(0.01, clock=FakeClock())
    state = {**controller.snapshot(), **broken} if broken else {}
    was = controller.report()
    with pytest.raises(ValueError, match="snapshot"):
        controller.restore(state)
    assert controller.report() == was


@pytest.mark.parametrize("usd", [0.0, -1.0, float("nan"), float("inf")])
def test_an_amount_must_be_positive(usd: float) -> None:
    with pytest.raises(ValueError, match="usd must be positive"):
        BudgetController(usd, clock=FakeClock())


def test_keys_have_their_own_budgets_and_the_least_recent_is_dropped() -> None:
    budgets = Budgets(lambda: BudgetController(0.01, clock=FakeClock()), scoped=True, size=2)
    budgets.settle("a", 0.5)
    assert budgets.weight("a") > budgets.weight("b")
    budgets.commit("c", 0.01)
    assert set(budgets.report()) == {"b", "c"}
    assert budgets.of("a").report()["requests"] == 0


def test_budgets_are_shared_and_survive_a_restart() -> None:
    clock = FakeClock()
    wish = Budget(usd=10.0, per="hour")
    budgets = budgets_for(wish, 1.0, workers=2, clock=clock)
    budgets.settle("a", 0.5)
    budgets.settle(None, 0.25)
    assert budgets.report()[""]["spent_usd"] == 0.75
    again = budgets_for(wish, 1.0, workers=2, clock=clock)
    again.restore(budgets.snapshot())
    for name in ("spent_usd", "requests", "surplus_requests", "total_spent_usd"):
        assert again.report()[""][name] == budgets.report()[""][name]
    assert again.report()[""]["usd"] == 5.0
    assert again.report()[""]["period_s"] == 3600.0


def test_a_budget_per_request_for_each_key() -> None:
    budgets = budgets_for(
        Budget(usd_per_request=0.01, scope="key"), 0.0, workers=2, clock=FakeClock()
    )
    budgets.settle("a", 0.5)
    assert budgets.report()["a"]["usd"] == 0.01
    assert budgets.report()["a"]["period_s"] is None
