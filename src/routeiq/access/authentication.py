"""Who is calling. Security: fails closed.

The master key and the admin keys are compared by their SHA-256 digests in constant time, so neither the
comparison's duration nor a memory dump of this table gives a key away.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from routeiq.access.principal import ANONYMOUS_ADMIN, Principal
from routeiq.exceptions import InvalidApiKey, PermissionDenied
from routeiq.ports import Header

_BEARER = b"bearer "


def token_from(headers: Iterable[Header]) -> bytes | None:
    """The credential of a request: `Authorization: Bearer`, else `x-api-key`, else `api-key` (Azure)."""
    found: bytes | None = None
    for name, value in headers:
        if name == b"authorization":
            scheme, rest = value[:7], value[7:].strip()
            if scheme.lower() == _BEARER and rest:
                return rest
        elif name in (b"x-api-key", b"api-key") and found is None and value:
            found = value.strip()
    return found


class Authenticator:
    """Checks a request's credential against the configured keys.

    Args:
        master_key: the admin key, `None` where none is configured.
        admin_keys: further admin keys.
        insecure: let everybody in as an admin; the server allows it on loopback only.
    """

    def __init__(
        self, *, master_key: str | None, admin_keys: Iterable[str] = (), insecure: bool = False
    ) -> None:
        keys = [("master", master_key)] if master_key else []
        keys += [(f"admin-{n}", key) for n, key in enumerate(admin_keys, 1)]
        self._keys = [
            (_digest(key.encode()), Principal(alias=name, admin=True)) for name, key in keys
        ]
        self._insecure = insecure

    def require_admin(self, headers: Iterable[Header]) -> None:
        """Let only admins pass.

        Raises:
            InvalidApiKey: as `authenticate`.
            PermissionDenied: a key without admin rights.
        """
        if not self.authenticate(headers).admin:
            raise PermissionDenied("This route needs an admin key.")

    def authenticate(self, headers: Iterable[Header]) -> Principal:
        """The caller.

        Raises:
            InvalidApiKey: no credential, or none that is known. Never says which part was wrong.
        """
        token = token_from(headers)
        if token is not None:
            digest = _digest(token)
            found = None
            for known, principal in self._keys:  # every key is compared: no early exit
                if hmac.compare_digest(known, digest):
                    found = principal
            if found is not None:
                return found
        if self._insecure:
            return ANONYMOUS_ADMIN
        if token is None:
            raise InvalidApiKey(
                "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY'."
            )
        raise InvalidApiKey(
            "Incorrect API key provided. Ask the gateway's operator for a valid key."
        )


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
