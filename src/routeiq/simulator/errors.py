"""Errors in OpenAI's shape and words, so that a gateway classifies them as it would the real ones."""

from __future__ import annotations

from collections.abc import Mapping

from routeiq.exceptions import RouteIQError

_KINDS: Mapping[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "The request is not valid."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "permission_denied", "You may not use this model."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist."),
    408: ("timeout", "timeout", "Request timed out."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
}
_SERVER = ("server_error", None, "The server had an error while processing your request.")


class ApiError(RouteIQError):
    """Answered by the simulator with `status` and OpenAI's error object; never leaves it."""

    def __init__(
        self, status: int, message: str = "", *, code: str | None = None, param: str | None = None
    ) -> None:
        kind, usual_code, usual_message = _KINDS.get(status, _SERVER)
        super().__init__(message or usual_message)
        self.status = status
        self.body = {
            "error": {
                "message": message or usual_message,
                "type": kind,
                "param": param,
                "code": code if message else usual_code,
            }
        }
