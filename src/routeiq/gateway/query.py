"""Reading the query strings of the gateway's own routes."""

from __future__ import annotations

from routeiq.exceptions import InvalidRequest

DIGITS = 19
"""More than any number that is asked for has; also where the rest are zeros in front."""


def whole_number(name: str, text: str, most: int) -> int:
    """A parameter as a whole number from 1 to `most`.

    Raises:
        InvalidRequest: it is none, or too large; names the parameter.
    """
    plain = text.isascii() and text.isdigit() and len(text) <= DIGITS
    if not plain or not 1 <= int(text) <= most:
        raise InvalidRequest(f"{name} must be 1 to {most}, not {text[:40]!r}.", param=name)
    return int(text)
