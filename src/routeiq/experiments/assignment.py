"""Who gets which variant: a pure function of (experiment, subject), so every worker agrees without asking.

Variants are drawn by weighted rendezvous hashing: each variant has an exponential clock of its own for the
subject, whose rate is its weight, and the first to ring wins. So the order of declaration is of no account, the
shares are the weights exactly, and when one weight changes subjects only go to (or leave) that variant: of 50/50
that becomes 60/40 one in ten moves, and no more must. See docs/adr/0015-experiments.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from math import log

from routeiq.config.experiments import SubjectKind
from routeiq.types import RoutingRequest

_UNIT = 2.0**-64
_number = int.from_bytes


class Hash:
    """Texts to uniform integers of 64 bits; those of different `purpose`s are independent."""

    __slots__ = ("begin",)

    def __init__(self, *purpose: str) -> None:
        begun = blake2b("\0".join(purpose).encode() + b"\0", digest_size=8)
        self.begin = begun.copy  # sooner than a new hash: the purpose is absorbed already

    def __call__(self, text: bytes) -> int:
        """The hash of a text."""
        begun = self.begin()
        begun.update(text)
        return int.from_bytes(begun.digest(), "big")

    def fraction(self, text: bytes) -> float:
        """The same in [0, 1)."""
        # 53 bits, so that it is never rounded up to 1.
        return (self(text) >> 11) * 2.0**-53


class Chooser:
    """Chooses among named things in proportion to their weights; those without weight are never chosen."""

    __slots__ = ("_clocks",)

    def __init__(self, salt: str, weights: Mapping[str, float]) -> None:
        self._clocks = [
            (Hash("variant", salt, name).begin, 1.0 / weight, name)
            for name, weight in sorted(weights.items())
            if weight > 0.0
        ]

    def __call__(self, subject: bytes) -> str:
        """The name that this subject gets."""
        clocks = self._clocks
        best, chosen = float("-inf"), clocks[0][2]
        if len(clocks) == 1:
            return chosen
        for begin, scale, name in clocks:
            hashed = begin()
            hashed.update(subject)
            # log of a uniform in (0, 1): minus an exponential variable; the greatest has the shortest wait.
            rings = log((_number(hashed.digest(), "big") + 0.5) * _UNIT) * scale
            if rings > best:
                best, chosen = rings, name
        return chosen


def subject_of(
    kinds: Iterable[SubjectKind],
    request: RoutingRequest,
    key_id: str | None,
    user: str | None,
    team: str | None,
) -> tuple[SubjectKind, str] | None:
    """What is assigned as one: the first of these kinds that the request has.

    A session's name is the client's own, so it counts within its key.
    """
    for kind in kinds:
        if kind == "key":
            found = key_id
        elif kind == "user":
            found = user
        elif kind == "team":
            found = team
        elif kind == "session":
            found = request.session_id
            if found is not None:
                found = f"{key_id or request.caller or ''}\0{found}"
        else:
            found = request.id
        if found is not None:
            return kind, found
    return None
