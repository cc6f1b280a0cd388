"""Which batches were applied already: one that comes again, because its answer was lost, is skipped."""

from __future__ import annotations

from routeiq.state.database import Session

KEPT_S = 86_400.0
"""How long a worker that sends nothing any more is remembered."""
UPSERT = (
    "INSERT INTO routeiq_batches (scope, worker, seq, seen_at) VALUES (:scope, :worker, :seq, :now)"
    " ON CONFLICT (scope, worker) DO UPDATE SET seq = excluded.seq, seen_at = excluded.seen_at"
    " WHERE routeiq_batches.seq < excluded.seq"
)
PRUNE = "DELETE FROM routeiq_batches WHERE seen_at < :old"


def is_new(session: Session, scope: str, worker: str, seq: int, now: float) -> bool:
    """Whether to apply the batch, in the transaction that applies it."""
    return session.count(UPSERT, {"scope": scope, "worker": worker, "seq": seq, "now": now}) > 0


def prune(session: Session) -> int:
    """Forget workers that are long gone."""
    return session.count(PRUNE, {"old": session.now() - KEPT_S})
