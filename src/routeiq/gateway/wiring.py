"""Who may call, who is in which experiment, who learns from feedback: made from a configuration and a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from routeiq.access.administration import Administration
from routeiq.access.authentication import Authenticator
from routeiq.access.declared import Declared
from routeiq.config.model import Config
from routeiq.exceptions import RouteIQError
from routeiq.experiments.live import Experiments
from routeiq.gateway.feedback import Feedback
from routeiq.gateway.feedback_store import FeedbackStore
from routeiq.registry import strategy_class
from routeiq.routing.catalog import Catalog
from routeiq.routing.router import Router
from routeiq.telemetry.decision_file import DecisionFile, FeedbackTail
from routeiq.types import StrategyTraits

if TYPE_CHECKING:
    from routeiq.gateway.process import Process


class ConfiguredNames:
    """What the variants of experiments may name."""

    def __init__(self, config: Config, catalog: Catalog) -> None:
        self._profiles = config.routeiq.all_profiles()
        self._catalog = catalog

    def strategy(self, name: str) -> StrategyTraits | None:
        """What a strategy is like, `None` where there is none of this name."""
        try:
            traits: StrategyTraits = strategy_class(name).traits
        except RouteIQError:
            return None
        return traits

    def profile(self, name: str) -> bool:
        """Whether there is such a profile."""
        return name in self._profiles

    def model(self, name: str) -> bool:
        """Whether a request could ask for this."""
        try:
            self._catalog.resolve(name)
        except RouteIQError:
            return False
        return True


def experiments_of(config: Config, process: Process, catalog: Catalog) -> Experiments:
    """The experiments of config.yaml; those of the control state come with it.

    Raises:
        ConfigError: one of them cannot be used.
    """
    return Experiments(
        config.routeiq.experiments,
        names=ConfiguredNames(config, catalog),
        counters=process.state.counters,
        clock=process.clock,
        worker=process.next_worker(),
        enabled=config.settings.ab_testing_enabled,
    )


def authenticator_of(config: Config, process: Process, *, insecure: bool) -> Authenticator:
    """Admin keys of the environment, keys of config.yaml, keys of the database.

    Raises:
        ConfigError: a key of config.yaml cannot be used.
    """
    return Authenticator(
        master_key=config.master_key,
        admin_keys=config.settings.admin_keys,
        insecure=insecure,
        declared=Declared(config.routeiq.access),
        keys=process.keys,
        clock=process.clock,
    )


def administration_of(config: Config, process: Process) -> Administration:
    """The rules by which keys, users and teams are changed."""
    return Administration(
        process.state.directory,
        pepper=process.pepper,
        clock=process.clock,
        announce=process.announce,
        declared=Declared(config.routeiq.access),
        cache=process.keys,
    )


def feedback_of(
    process: Process,
    authenticator: Authenticator,
    router: Router,
    experiments: Experiments,
    decision_file: DecisionFile | None,
) -> Feedback:
    """Who takes feedback, and who learns from it."""
    store = None
    if process.decision_store is not None and process.state.decisions is not None:
        store = FeedbackStore(
            process.state.decisions,
            process.decision_store,
            flush_s=process.config.routeiq.decisions.flush_s,
        )
    return Feedback(
        authenticator=authenticator,
        router=router,
        decisions=process.decisions,
        clock=process.clock,
        tail=None if decision_file is None else FeedbackTail(decision_file.folder),
        store=store,
        rated=experiments.rated,
    )
