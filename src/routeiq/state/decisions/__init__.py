"""The decision log in the database: records, feedback, retention."""

from routeiq.state.decisions.ledger import DecisionLedger, Rated
from routeiq.state.decisions.store import SqlDecisions

__all__ = ["DecisionLedger", "Rated", "SqlDecisions"]
