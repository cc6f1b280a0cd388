"""The certified guarantee: who may stand in for the reference model without breaking the promise. Pure.

A certificate says: replacing the reference model only by models whose score is at least its own less `tau` loses
at most epsilon of quality with confidence 1 - delta. How `tau` is found and certified is `routeiq.training`'s;
here it is only obeyed. It fails closed for quality: without a certificate nobody may stand in.
"""

from __future__ import annotations

from collections.abc import Sequence


def switchable(
    scores: Sequence[float], reference_index: int | None, tau: float | None
) -> tuple[int, ...]:
    """Indexes of the candidates that may answer, ascending, never empty.

    Args:
        scores: predicted quality per candidate, of the kind that the certificate was made for; at least one.
        reference_index: the reference model, `None` where it is not among the candidates: the promise cannot be
            given then, and the best predicted quality is all that is left. Say so.
        tau: the certified margin (negative: stand-ins must be predicted better), `None` without a certificate:
            only the reference may answer.
    """
    if reference_index is None:
        return (max(range(len(scores)), key=scores.__getitem__),)
    if tau is None:
        return (reference_index,)
    least = scores[reference_index] - tau
    return tuple(i for i, s in enumerate(scores) if s >= least or i == reference_index)
