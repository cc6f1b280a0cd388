"""Local leasing: a worker takes more of a busy bucket than one request needs, and spends it without asking.

How much follows from what it took in the last second, so a bucket that is seldom used is never leased and is
counted exactly. What is not used within a second goes back.
"""

from __future__ import annotations

from routeiq.stores import Grant

from .buckets import NEVER, WINDOW_S, Bucket

LEASE_S = 1.0
"""A lease lives this long after the last grant, and never beyond its window or period."""
PER_SECOND = 4
"""Leases in a second at a steady rate; a bucket that is used less often is not leased."""


def wanted(bucket: Bucket, amount: int, now: float) -> int:
    """How much more than `amount` to ask for: a quarter of a second's traffic, if a request fits into it."""
    if bucket.kind == "slots" or bucket.asking:
        return 0
    elapsed = now - bucket.mark
    if elapsed >= 1.0:
        bucket.rate, bucket.pace = bucket.took / elapsed, bucket.times / elapsed
        bucket.took, bucket.times, bucket.mark = 0, 0, now
    if max(bucket.pace, bucket.times) < PER_SECOND:
        return 0
    extra = int(max(bucket.rate, bucket.took)) // PER_SECOND
    return extra if extra >= amount else 0


def received(bucket: Bucket, grant: Grant, extra: int, asked_at: float, wall: float) -> None:
    """Note what the store said, and keep `extra` of it to spend."""
    bucket.used = grant.used
    bucket.outage_at = None
    if grant.taken:
        bucket.seed = 0
    if bucket.kind == "window":
        bucket.reset_at = asked_at + grant.reset_s
    if bucket.kind == "slots":
        bucket.held += grant.taken
        return
    if extra <= 0:
        return
    window = grant.window if bucket.span is None else bucket.lease_window
    if bucket.lease and (bucket.lease_window != window or asked_at >= bucket.lease_until):
        give_back(bucket)
    bucket.lease += extra
    bucket.lease_window = window
    bucket.low = bucket.lease // 2
    bucket.lease_until = asked_at + min(LEASE_S, _window_left(bucket, grant, wall))


def give_back(bucket: Bucket) -> None:
    """Tell the store some time that the lease was not used."""
    if bucket.kind == "slots":
        return  # settlement gives these back
    lease, bucket.lease = bucket.lease, 0
    bucket.lease_until, bucket.low = NEVER, -1
    if lease:
        bucket.used -= lease
        bucket.tenant.owe(bucket, bucket.lease_window, -lease)


def returned(bucket: Bucket, amount: int, window: int) -> None:
    """A request that was refused by another bucket did not need what it had taken from the lease here."""
    bucket.took -= amount
    bucket.times -= 1
    if bucket.kind == "slots" or (bucket.lease and bucket.lease_window == window):
        bucket.lease += amount
    else:
        bucket.used -= amount
        bucket.tenant.owe(bucket, window, -amount)


def _window_left(bucket: Bucket, grant: Grant, wall: float) -> float:
    if bucket.span is not None:
        return bucket.span.left_s(wall)
    # A window that holds something is empty when the next one is over.
    reset_s = grant.reset_s
    return reset_s - WINDOW_S if reset_s > WINDOW_S else reset_s
