"""Every error that RouteIQ raises on purpose.

RouteIQError
├── ConfigError                 the operator's configuration cannot be used; lists every problem
├── StrategyError               a strategy broke its contract (wrong number of scores, NaN)
├── EgressDenied                an outbound URL is not allowed (decision 19)
├── StoreUnavailable            a store cannot be reached, or did not answer in time
├── RequestError                answered to the caller in OpenAI's error shape
│   ├── InvalidRequest          400
│   │   └── ContextLengthExceeded 400  longer than every eligible model's window
│   ├── RequestTooLarge         413
│   ├── InvalidApiKey           401
│   ├── PermissionDenied        403
│   ├── ModelNotFound           404
│   ├── NotFound                404  no such route
│   ├── MethodNotAllowed        405
│   ├── Conflict                409
│   │   └── PreconditionFailed  412  If-Match
│   ├── RateLimitExceeded       429 + Retry-After + x-ratelimit-*
│   │   └── BudgetExceeded      429
│   ├── StateUnavailable        503 + Retry-After  a store is down and this fails closed
│   ├── OverCapacity            503 + Retry-After
│   ├── Draining                503 + Retry-After
│   ├── NoHealthyDeployment     503 + Retry-After
│   └── UpstreamFailed          502, 504 or the provider's own status
└── UpstreamError               one call upstream failed; becomes a retry, a fallback or UpstreamFailed
    ├── ConnectFailed           no connection: DNS, TCP, TLS
    ├── UpstreamTimeout         connect, first byte, idle or total
    └── ConnectionLost          cut after the request was sent
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal


class RouteIQError(Exception):
    """The root: catch it to catch everything of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a configuration: where, what, and how to mend it."""

    key: str
    message: str
    fix: str = ""
    file: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        """`file: key.path: message. Fix`."""
        where = ": ".join(part for part in (self.file, self.key) if part)
        return f"{where}: {self.message}" + (f" {self.fix}" if self.fix else "")


class ConfigError(RouteIQError):
    """The configuration cannot be used. `problems` has all that was found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


class StrategyError(RouteIQError):
    """A strategy broke its contract; the router falls back to balancing and says so."""


class EgressDenied(RouteIQError):
    """An outbound URL is not allowed. Security: fails closed."""


class StoreUnavailable(RouteIQError):
    """A store cannot be reached, or did not answer in time: whether a write took place is unknown."""


class RequestError(RouteIQError):
    """Answered to the caller in OpenAI's shape. The message never names an upstream host or a secret."""

    status: ClassVar[int] = 400
    type: ClassVar[str] = "invalid_request_error"
    code: ClassVar[str | None] = None

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.headers: tuple[tuple[bytes, bytes], ...] = ()


class InvalidRequest(RequestError):
    """The body or a header is not usable; `param` names the part."""

    code = "invalid_request"


class ContextLengthExceeded(InvalidRequest):
    """The request is longer than the context window of every model that could have answered it."""

    code = "context_length_exceeded"


class RequestTooLarge(RequestError):
    """The body is larger than the configured limit."""

    status = 413
    code = "request_too_large"


class InvalidApiKey(RequestError):
    """No key, or one that is not known."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class PermissionDenied(RequestError):
    """A good key that may not do this."""

    status = 403
    type = "permission_error"
    code = "permission_denied"


class ModelNotFound(RequestError):
    """No model group, alias, profile or wildcard matches the name."""

    status = 404
    code = "model_not_found"


class NotFound(RequestError):
    """No such route."""

    status = 404
    code = "not_found"


class MethodNotAllowed(RequestError):
    """The route exists, the method does not."""

    status = 405
    code = "method_not_allowed"


class Conflict(RequestError):
    """Somebody else changed it meanwhile, or the name is taken."""

    status = 409
    code = "conflict"


class PreconditionFailed(Conflict):
    """The version in `If-Match` is not the one that is there."""

    status = 412
    code = "precondition_failed"


class RateLimitExceeded(RequestError):
    """A rate limit of the key, its user or its team is used up. `headers` has the `x-ratelimit-*`."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class BudgetExceeded(RateLimitExceeded):
    """A budget of the key, its user or its team is used up."""

    type = "insufficient_quota"
    code = "budget_exceeded"


class StateUnavailable(RequestError):
    """A store is down and what it holds must be known (an unseen key, a limit that fails closed)."""

    status = 503
    type = "server_error"
    code = "state_unavailable"


class OverCapacity(RequestError):
    """More concurrent requests than `ROUTEIQ_MAX_CONCURRENT_REQUESTS`."""

    status = 503
    type = "server_error"
    code = "over_capacity"


class Draining(RequestError):
    """The process is about to end; another replica will answer."""

    status = 503
    type = "server_error"
    code = "draining"


class NoHealthyDeployment(RequestError):
    """Every deployment of the model is excluded: breaker, capability, window."""

    status = 503
    type = "server_error"
    code = "no_healthy_deployment"


class UpstreamFailed(RequestError):
    """All attempts failed: 504 `upstream_timeout` or 502 `upstream_error`."""

    status = 502
    type = "server_error"
    code = "upstream_error"


class UpstreamTimedOut(UpstreamFailed):
    """All attempts failed and the last one ran out of time."""

    status = 504
    code = "upstream_timeout"


class UpstreamError(RouteIQError):
    """One call upstream failed before a usable response. `sent` says whether bytes may have arrived."""

    code: ClassVar[str] = "upstream_error"

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class ConnectFailed(UpstreamError):
    """DNS, TCP or TLS failed: nothing was sent."""

    code = "connect_failed"


class UpstreamTimeout(UpstreamError):
    """A timeout of ours expired: `phase` is connect, first_byte, idle or total."""

    code = "upstream_timeout"

    def __init__(self, message: str, *, phase: str, sent: bool = True) -> None:
        super().__init__(message, sent=sent)
        self.phase = phase


class ConnectionLost(UpstreamError):
    """The connection was cut, or what came over it was not HTTP, after the request was sent."""

    code = "connection_lost"

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=True)
