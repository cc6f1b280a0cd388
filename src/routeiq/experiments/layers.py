"""Which part of a layer an experiment has: parts of experiments that run at the same time are disjoint.

The layer is the interval [0, 1) on which a hash of (layer, subject) falls. Experiments take what is free when they
start, in the order of their starts (then of their names, whatever the order of declaration): so one that starts
later never moves one that started before. What is free may be in several pieces; therefore a layer is
over-full only where the shares of those that run at once sum up to more than 1. A disabled experiment
keeps its part until its end, to be enabled again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from routeiq.config.experiments import Experiment
from routeiq.exceptions import Problem

from .schedule import Schedule

Piece = tuple[float, float, float]
"""Begin, end, and the length of the pieces before it."""
Span = tuple[float, float]
_DUST = 1e-9
"""Shares are written as decimal fractions: 0.7 + 0.2 + 0.1 is not over-full."""


def position(pieces: Sequence[Piece], point: float) -> float:
    """How far inside the pieces this point of the layer is; infinite where it is outside."""
    for begin, end, before in pieces:
        if begin <= point < end:
            return before + point - begin
    return inf


def allot(experiments: Mapping[str, Experiment]) -> tuple[dict[str, list[Piece]], list[Problem]]:
    """The pieces of each experiment that is in a layer, and what is wrong (`key` is an experiment's name)."""
    layers: dict[str, list[tuple[float, str]]] = {}
    schedules = {name: Schedule(one) for name, one in experiments.items()}
    for name, one in experiments.items():
        if one.layer is not None:
            layers.setdefault(one.layer, []).append((schedules[name].start, name))
    pieces: dict[str, list[Piece]] = {}
    problems: list[Problem] = []
    for layer, members in sorted(layers.items()):
        members.sort()
        timeless = [name for start, name in members if start == -inf]
        problems += [_timeless(layer, name, timeless[0]) for name in timeless[1:]]
        taken: dict[str, list[Span]] = {}
        for start, name in members:
            # What starts later is not in `taken` yet, what is over by now no longer counts.
            others = [
                span for o, spans in taken.items() if schedules[o].end > start for span in spans
            ]
            taken[name], lacking = _take(others, experiments[name].traffic)
            if lacking > _DUST:
                problems.append(_full(layer, name, experiments[name].traffic, lacking))
            pieces[name] = _measured(taken[name])
    return pieces, problems


def _take(others: list[Span], wanted: float) -> tuple[list[Span], float]:
    """The first free spans of this length together, and how much is lacking."""
    found: list[Span] = []
    at = 0.0
    for begin, end in [*sorted(others), (1.0, 1.0)]:
        if begin > at and wanted > _DUST:
            length = min(wanted, begin - at)
            found.append((at, at + length))
            wanted -= length
        at = max(at, end)
    return found, wanted


def _measured(spans: list[Span]) -> list[Piece]:
    pieces, before = [], 0.0
    for begin, end in spans:
        pieces.append((begin, end, before))
        before += end - begin
    return pieces


def _full(layer: str, name: str, traffic: float, lacking: float) -> Problem:
    return Problem(
        key=name,
        message=f"layer {layer!r} is over-full: {traffic:g} is wanted, {traffic - lacking:.4g} is left "
        "when it starts.",
        fix="Lower `traffic`, or let another experiment of the layer end before.",
    )


def _timeless(layer: str, name: str, first: str) -> Problem:
    return Problem(
        key=name,
        message=f"it and {first!r} are in layer {layer!r} without `start`: nothing says whose place comes first.",
        fix="Give it a `start`; the earlier one keeps its place.",
    )
