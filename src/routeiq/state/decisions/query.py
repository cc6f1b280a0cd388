"""From the fields that may be searched for to SQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from routeiq.state.decisions.rows import clean

EQUAL = (
    "key",
    "team",
    "model",
    "requested",
    "strategy",
    "status",
    "outcome",
    "session_id",
    "experiment",
    "variant",
)
"""Fields that are compared for equality."""
BOUNDS = ("since", "until", "before", "before_time")
"""Fields that say where in time to look."""
FIELDS = frozenset((*EQUAL, *BOUNDS))
INDEXED = frozenset(("key", "team", "session_id", "experiment", "outcome"))
"""Fields whose matches are found without reading others; of outcomes those that are not success."""


def where(query: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The condition and its parameters. `before` needs `before_time`, the time of that record.

    Raises:
        ValueError: a field that cannot be searched for.
    """
    unknown = sorted(set(query) - FIELDS)
    if unknown:
        raise ValueError(f"decisions cannot be searched by {', '.join(unknown)}")
    terms, parameters = ["1 = 1"], {}
    for name in EQUAL:
        value = query.get(name)
        if value is None:
            continue
        terms.append(f"{name} = :{name}")
        parameters[name] = value if name == "status" else clean(value)
    if parameters.get("outcome") not in (None, "success"):
        terms.append("outcome <> 'success'")  # lets the partial index be used
    for name, sign in (("since", ">="), ("until", "<")):
        if query.get(name) is not None:
            terms.append(f"time {sign} :{name}")
            parameters[name] = float(query[name])
    if query.get("before") is not None:
        terms.append("(time, decision_id) < (:before_time, :before)")
        parameters["before"] = clean(query["before"])
        parameters["before_time"] = float(query["before_time"])
    return " AND ".join(terms), parameters


def scans(query: Mapping[str, Any]) -> bool:
    """Whether rows may have to be read that do not match: a field is asked for that has no index."""
    given = {name for name in EQUAL if query.get(name) is not None}
    if query.get("outcome") == "success":
        given -= {"outcome"}
        given |= {"status"}
    return not given <= INDEXED


def mark_sql(query: Mapping[str, Any], size: int) -> tuple[str, dict[str, Any]]:
    """The statement that finds where the newest `size` rows end, whatever else `query` asks for."""
    condition, parameters = where({name: query.get(name) for name in BOUNDS})
    sql = (
        f"SELECT time, decision_id FROM routeiq_decisions WHERE {condition} "  # noqa: S608
        "ORDER BY time DESC, decision_id DESC LIMIT 1 OFFSET :size"
    )
    return sql, {**parameters, "size": size - 1}


def search_sql(
    query: Mapping[str, Any], limit: int, mark: tuple[float, str] | None = None
) -> tuple[str, dict[str, Any]]:
    """The statement that finds `decision_id, record`, newest first, down to the row `mark`."""
    condition, parameters = where(query)
    if mark is not None:
        condition += " AND (time, decision_id) >= (:mark_time, :mark_id)"
        parameters |= {"mark_time": mark[0], "mark_id": mark[1]}
    sql = (
        f"SELECT decision_id, record FROM routeiq_decisions WHERE {condition} "  # noqa: S608
        "ORDER BY time DESC, decision_id DESC LIMIT :limit"
    )
    return sql, {**parameters, "limit": limit}
