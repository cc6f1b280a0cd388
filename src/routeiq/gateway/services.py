"""Every route beside the data plane: which handlers there are for one runtime."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from routeiq.access.limits.subjects import Subjects
from routeiq.gateway.admin import Admin
from routeiq.gateway.artifacts import Artifacts
from routeiq.gateway.asgi import Routes
from routeiq.gateway.control_api import ControlApi
from routeiq.gateway.decisions import DecisionsApi
from routeiq.gateway.experiments import ExperimentsApi
from routeiq.gateway.keys import Keys
from routeiq.gateway.sync import SyncApi
from routeiq.gateway.usage import UsageApi
from routeiq.gateway.wiring import ConfiguredNames, administration_of

if TYPE_CHECKING:
    from routeiq.gateway.runtime import Runtime


def admin_routes(runtime: Runtime) -> Routes:
    """Path to method to handler."""
    process, config = runtime.process, runtime.config
    state, authenticator = process.state, runtime.authenticator
    administration = administration_of(config, process)
    defaults = config.routeiq.access.defaults
    services = (
        Admin(runtime),
        Artifacts(runtime),
        ControlApi(runtime),
        runtime.feedback,
        Keys(authenticator=authenticator, administration=administration, clock=process.clock),
        UsageApi(
            authenticator=authenticator,
            limiter=process.limiter,
            subjects=Subjects(administration, state.directory, defaults=defaults),
        ),
        DecisionsApi(
            authenticator=authenticator,
            decisions=None if process.decision_store is None else state.decisions,
            memory=process.decisions,
            store_writer=process.decision_store,
        ),
        ExperimentsApi(
            authenticator=authenticator,
            documents=state.documents,
            counters=state.counters,
            clock=process.clock,
            declared=lambda: config.routeiq.experiments,
            names=lambda: ConfiguredNames(config, runtime.catalog),
            announce=partial(process.control_changed, "experiments", 0),
        ),
        SyncApi(
            authenticator=authenticator,
            jobs=process.jobs,
            activation_status=runtime.activation.status,
            clock=process.clock,
        ),
    )
    routes: Routes = {}
    for service in services:
        routes.update(service.routes())
    return routes
