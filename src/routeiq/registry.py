"""Name to class, lazily: a built-in table, then entry points that the operator allowed.

Installed is not enabled: an entry point is loaded only when the configuration names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from routeiq.exceptions import ConfigError, Problem

BUILTIN_STRATEGIES: Mapping[str, str] = {
    "round-robin": "routeiq.strategies.round_robin:RoundRobinStrategy",
    "random": "routeiq.strategies.random_weighted:RandomStrategy",
    "weighted": "routeiq.strategies.random_weighted:WeightedStrategy",
    "least-busy": "routeiq.strategies.least_busy:LeastBusyStrategy",
    "lowest-latency": "routeiq.strategies.lowest_latency:LowestLatencyStrategy",
    "lowest-cost": "routeiq.strategies.lowest_cost:LowestCostStrategy",
    "prior": "routeiq.strategies.prior:PriorStrategy",
    "smallest": "routeiq.strategies.size:SmallestStrategy",
    "largest": "routeiq.strategies.size:LargestStrategy",
    "cost-aware": "routeiq.strategies.cost_aware:CostAwareStrategy",
    "latency-sla": "routeiq.strategies.latency_sla:LatencySlaStrategy",
    "judge": "routeiq.strategies.judge:JudgeStrategy",
    "cascade": "routeiq.strategies.cascade:CascadeStrategy",
    "threshold": "routeiq.strategies.threshold:ThresholdStrategy",
    "knn": "routeiq.strategies.knn:KnnStrategy",
    "cluster": "routeiq.strategies.cluster:ClusterStrategy",
    "svm": "routeiq.strategies.svm:SvmStrategy",
    "logistic": "routeiq.strategies.logistic:LogisticStrategy",
    "elo": "routeiq.strategies.elo:EloStrategy",
    "mlp": "routeiq.strategies.mlp:MlpStrategy",
    "mf": "routeiq.strategies.mf:MfStrategy",
    "irt": "routeiq.strategies.irt:IrtStrategy",
    "hybrid": "routeiq.strategies.hybrid:HybridStrategy",
    "adaptive": "routeiq.strategies.adaptive:AdaptiveStrategy",
    "linucb": "routeiq.strategies.linucb:LinucbStrategy",
}

STRATEGY_ENTRY_POINTS = "routeiq.strategies"


def strategy_class(name: str, *, key: str = "routeiq.strategy") -> Any:
    """The class behind a strategy's name.

    Raises:
        ConfigError: no built-in and no installed entry point has this name; suggests the nearest.
    """
    target = BUILTIN_STRATEGIES.get(name)
    if target is not None:
        module, _, attribute = target.partition(":")
        return getattr(import_module(module), attribute)
    installed = {entry.name: entry for entry in entry_points(group=STRATEGY_ENTRY_POINTS)}
    if name in installed:
        return installed[name].load()
    known = sorted({*BUILTIN_STRATEGIES, *installed})
    near = get_close_matches(name, known, n=1)
    fix = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
    raise ConfigError([Problem(key=key, message=f"no strategy is called {name!r}.", fix=fix)])
