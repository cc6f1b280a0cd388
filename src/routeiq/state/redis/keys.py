"""Every key that RouteIQ writes to Redis: the one table, from which docs/reference/redis-keys.md is checked.

Each key has a lifetime or a reason to have none. Keys that one script touches carry a hash tag `{...}`, so that a
cluster keeps them on one server.
"""

from __future__ import annotations

from routeiq.stores import BucketKind
from routeiq.values import value

LIMIT_SEQ_S = 86_400
"""How long it is remembered which settlements were counted: longer than anybody sends one again."""
PERIOD_S = 35 * 86_400
"""Lifetime of a budget's bucket that was given none; a new one starts at its seed."""
COUNTER_SEQ_S = 7 * 86_400
"""As for limits, longer: counters are exact also across a long outage."""
BOARD_S = 3_600
"""How long a breaker stays on the board after it may be probed, if nobody ever closes it."""
CHANNEL = "routeiq:events"
PING = "routeiq:ping"
BOARD = "routeiq:cb"


@value
class Key:
    """A row: `lifetime` is a TTL or begins with `none`, followed by the reason."""

    pattern: str
    type: str
    lifetime: str
    holds: str


TABLE = (
    Key(
        pattern="routeiq:limit:{<tenant>}:w:<bucket>",
        type="string",
        lifetime="until the window after the debited one is over",
        holds="rate limit: `window:current:previous:window_ms`",
    ),
    Key(
        pattern="routeiq:limit:{<tenant>}:p:<bucket>",
        type="string",
        lifetime="the period's `keep_s`; 35 days where there is none",
        holds="budget: what is taken, in nano-USD or tokens; `~` before it until it was seeded. `<bucket>` ends "
        "with `@` and the tenant's `mark`, which another Redis, or an emptied one, would not have",
    ),
    Key(
        pattern="routeiq:limit:{<tenant>}:s:<bucket>",
        type="hash",
        lifetime="30 s after the last worker that has slots said so",
        holds="concurrent requests: worker to `count:until_ms`",
    ),
    Key(
        pattern="routeiq:limit:{<tenant>}:held:<worker>",
        type="set",
        lifetime="as the slots in it",
        holds="the keys in which this worker has slots",
    ),
    Key(
        pattern="routeiq:limit:{<tenant>}:seq:<worker>",
        type="string",
        lifetime="1 day",
        holds="number of the last batch of settlements that was counted",
    ),
    Key(
        pattern="routeiq:counters:{<name>}",
        type="hash",
        lifetime="none: experiment counters are results and must not vanish; deleted with the experiment",
        holds="exact counters: field to integer",
    ),
    Key(
        pattern="routeiq:counters:{<name>}:seq:<worker>",
        type="string",
        lifetime="7 days",
        holds="number of the last batch that was counted",
    ),
    Key(
        pattern="routeiq:cb:<breaker>",
        type="string",
        lifetime="until it may be probed, and 1 hour",
        holds="an open breaker: when it may be probed, which worker opened it and why",
    ),
    Key(
        pattern="routeiq:cb",
        type="sorted set",
        lifetime="as the last of the breakers in it",
        holds="the names of the open breakers",
    ),
    Key(
        pattern="routeiq:probe:<breaker>",
        type="string",
        lifetime="as long as the probe may take, or half a breaker's pause",
        holds="the worker that may send the fleet's one probe; or that nobody may yet, since it has just opened",
    ),
    Key(
        pattern="routeiq:affinity:<conversation>",
        type="string",
        lifetime="`routeiq.affinity.ttl_s` after the last turn",
        holds="the deployment that the conversation stays with",
    ),
    Key(
        pattern="routeiq:lease:{<name>}",
        type="string",
        lifetime="the lease's time",
        holds="`token holder`",
    ),
    Key(
        pattern="routeiq:lease:{<name>}:token",
        type="string",
        lifetime="none: a fencing token never goes back; one per job, of which there are few",
        holds="the last token that was given out",
    ),
    Key(
        pattern="routeiq:ping",
        type="string",
        lifetime="60 s",
        holds="written to find out whether the server takes writes",
    ),
)


def limit(tenant: str, kind: BucketKind, bucket: str) -> str:
    """A bucket of a tenant."""
    return f"routeiq:limit:{{{tenant}}}:{kind[0]}:{bucket}"


def limit_held(tenant: str, worker: str) -> str:
    """In which buckets a worker has slots."""
    return f"routeiq:limit:{{{tenant}}}:held:{worker}"


def limit_seq(tenant: str, worker: str) -> str:
    """A worker's last batch of settlements."""
    return f"routeiq:limit:{{{tenant}}}:seq:{worker}"


def counters(name: str) -> str:
    """A group of counters."""
    return f"routeiq:counters:{{{name}}}"


def counters_seq(name: str, worker: str) -> str:
    """A worker's last batch for a group."""
    return f"routeiq:counters:{{{name}}}:seq:{worker}"


def breaker(name: str) -> str:
    """An open breaker."""
    return f"{BOARD}:{name}"


def probe(name: str) -> str:
    """A claim to a breaker's probe."""
    return f"routeiq:probe:{name}"


def affinity(conversation: str) -> str:
    """A conversation's deployment."""
    return f"routeiq:affinity:{conversation}"


def lease(name: str) -> str:
    """A job's holder."""
    return f"routeiq:lease:{{{name}}}"


def lease_token(name: str) -> str:
    """A job's last token."""
    return f"routeiq:lease:{{{name}}}:token"
