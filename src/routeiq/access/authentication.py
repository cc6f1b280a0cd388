"""Who is calling. Security: fails closed.

The master key and the admin keys are compared by their SHA-256 digests in constant time, so neither the
comparison's duration nor a memory dump of this table gives a key away.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from routeiq.access.declared import Declared, digest_of
from routeiq.access.expiry import iso
from routeiq.access.inheritance import Resolved
from routeiq.access.key_cache import UNKNOWN, KeyCache
from routeiq.access.principal import ANONYMOUS_ADMIN, Principal
from routeiq.exceptions import InvalidApiKey, PermissionDenied
from routeiq.ports import Clock, Header, SystemClock

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
    """Checks a request's credential against the configured, the declared and the stored keys, in this order.

    Args:
        master_key: the admin key, `None` where none is configured.
        admin_keys: further admin keys.
        insecure: let who has no key that is known in as an admin; the server allows it on loopback only.
        declared: keys of config.yaml.
        keys: stored keys; `None` where there is no directory.
        clock: for keys that expire.
    """

    def __init__(
        self,
        *,
        master_key: str | None,
        admin_keys: Iterable[str] = (),
        insecure: bool = False,
        declared: Declared | None = None,
        keys: KeyCache | None = None,
        clock: Clock | None = None,
    ) -> None:
        admins = [("master", master_key)] if master_key else []
        admins += [(f"admin-{n}", key) for n, key in enumerate(admin_keys, 1)]
        self._admins = [
            (digest_of(key.encode()), Principal(alias=name, admin=True)) for name, key in admins
        ]
        self._insecure = insecure
        self._declared = declared
        self._keys = keys
        self._wall = (clock or SystemClock()).wall

    def known(self, headers: Iterable[Header]) -> Principal | None:
        """The caller, as far as this worker knows without waiting; `None` means that `authenticate` must ask.

        Raises:
            InvalidApiKey: no credential, or one that cannot be good. Never says which part was wrong.
        """
        token = token_from(headers)
        if token is None:
            return self._nobody()
        found = self._configured(token)
        if isinstance(found, Principal):
            return found
        if found is None and self._keys is not None:
            found = self._keys.known(token)
            if found is None:
                return None
        return self._checked(found or UNKNOWN)

    async def authenticate(self, headers: Iterable[Header]) -> Principal:
        """The caller.

        Raises:
            InvalidApiKey: no credential, or none that is known. Never says which part was wrong.
            StateUnavailable: it may be a stored key, and these cannot be asked for.
        """
        headers = tuple(headers)
        principal = self.known(headers)
        if principal is not None:
            return principal
        token = token_from(headers)
        if token is None or self._keys is None:
            return self._nobody()
        return self._checked(await self._keys.find(token))

    async def require(self, headers: Iterable[Header], permission: str) -> Principal:
        """The caller, if it has this right in the admin API.

        Raises:
            InvalidApiKey: as `authenticate`.
            PermissionDenied: it has not; the message names the right.
        """
        principal = await self.authenticate(headers)
        if not principal.may(permission):
            raise PermissionDenied(
                f"This needs an admin key, or a key with the permission `{permission}`."
            )
        return principal

    def _configured(self, token: bytes) -> Principal | Resolved | None:
        digest = digest_of(token)
        found = None
        for known, principal in self._admins:  # every key is compared: no early exit
            if hmac.compare_digest(known, digest):
                found = principal
        if found is None and self._declared is not None:
            return self._declared.find(digest)
        return found

    def _nobody(self) -> Principal:
        if self._insecure:
            return ANONYMOUS_ADMIN
        raise InvalidApiKey(
            "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY'."
        )

    def _checked(self, found: Resolved) -> Principal:
        """A key is looked at on each use: time passes for remembered ones too."""
        if found.refusal is not None:
            if found is UNKNOWN and self._insecure:
                return ANONYMOUS_ADMIN
            raise InvalidApiKey(found.refusal)
        end = found.principal.expires_at
        if end is not None and self._wall() >= end:
            raise InvalidApiKey(f"This API key expired at {iso(end)}.")
        return found.principal
