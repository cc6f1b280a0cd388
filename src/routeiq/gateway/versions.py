"""`ETag` and `If-Match` on things that carry a version number (RFC 9110)."""

from __future__ import annotations

from routeiq.exceptions import Conflict, InvalidRequest, PreconditionFailed
from routeiq.gateway.asgi import Scope, header
from routeiq.ports import Header


def etag(version: int) -> Header:
    """The header that says which version was answered."""
    return (b"etag", b'"%d"' % version)


def expected_version(scope: Scope) -> int | None:
    """The version that the caller has seen, from `If-Match`; `None` where it did not say, or said `*`.

    Raises:
        InvalidRequest: it is no version of ours.
    """
    value = header(scope["headers"], b"if-match")
    if value is None or value.strip() == b"*":
        return None
    text = value.strip().removeprefix(b"W/").strip(b'"')
    if not text.isdigit() or len(text) > 18:
        raise InvalidRequest('If-Match must be an ETag of this API, such as "3".', param="if-match")
    return int(text)


def as_precondition(error: Conflict, expected: int | None) -> Conflict:
    """The conflict as the caller asked for it: 412 where it sent `If-Match`, else 409."""
    return error if expected is None else PreconditionFailed(error.message)
