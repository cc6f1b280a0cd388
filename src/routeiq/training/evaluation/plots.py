"""Plots of a report with matplotlib, as SVG for the web page or as files. Needs the `train` extra."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from routeiq.training.errors import require

from .curves import hull
from .outcomes import Array
from .report import ORACLE, RANDOM, SINGLES, Report

STYLES = {SINGLES: ("black", "--"), ORACLE: ("green", ":"), RANDOM: ("grey", "")}
SUFFIXES = (".svg", ".png")
MOST_MODELS = 12
"""Models with a colour of their own in the plot of shares; the rest are one area."""


def plots(report: Report) -> dict[str, Callable[[Any], None]]:
    """Name of the plot to the function that draws it on matplotlib axes."""
    found: dict[str, Callable[[Any], None]] = {}
    if report.priced:
        found["cost_quality"] = partial(_cost_quality, report)
    found["calibration"] = partial(_calibration, report)
    if report.priced:
        for name in report.shares:
            found[f"shares_{_file_name(name)}"] = partial(_shares, report, name)
    return found


def svg(report: Report) -> dict[str, str]:
    """Every plot as an `<svg>` element, without the XML head. Texts are drawn as paths: no font is asked for.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    found = {}
    for name, draw in plots(report).items():
        raw = _render(draw, "svg").decode("utf-8")
        found[name] = raw[raw.index("<svg") :]
    return found


def write_plots(report: Report, folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """Write every plot into `folder`, one file per suffix.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in plots(report).items():
        for suffix in suffixes:
            path = folder / f"{name}{suffix}"
            path.write_bytes(_render(draw, suffix.removeprefix(".")))
            written.append(path)
    return written


def _render(draw: Callable[[Any], None], form: str) -> bytes:
    purpose = "drawing plots"
    figures = require("matplotlib.figure", extra="train", purpose=purpose)
    settings = require("matplotlib", extra="train", purpose=purpose)
    with settings.rc_context({"svg.hashsalt": "routeiq", "svg.fonttype": "path"}):
        figure = figures.Figure(figsize=(7.5, 4.8), layout="constrained")
        draw(figure.subplots())
        out = BytesIO()
        figure.savefig(
            out, format=form, dpi=120, metadata={"Date": None} if form == "svg" else None
        )
    return out.getvalue()


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


def _label(name: str) -> str:
    """A name as a plain label: matplotlib reads `$` as mathematics and hides what begins with `_`."""
    escaped = name.replace("$", r"\$")
    return f"\u200b{escaped}" if escaped.startswith("_") else escaped


def _cost_quality(report: Report, axes: Any) -> None:
    for entry in report.entries:
        colour, line = STYLES.get(entry.name, (None, "-" if entry.kind == "strategy" else "-."))
        x, y = 1000.0 * entry.cost, entry.quality
        if entry.name == SINGLES:
            axes.plot(x, y, "k.", label="single models")
            x, y = _edge(x, y)
        if line:
            order = np.argsort(x, kind="stable")
            width = 2.0 if entry.kind == "strategy" else 1.1
            axes.plot(x[order], y[order], line, color=colour, lw=width, label=_label(entry.name))
        else:
            axes.plot(x, y, "x", color=colour, label=_label(entry.name))
    axes.set_xscale("log")
    axes.set_xlabel("USD per 1,000 requests")
    axes.set_ylabel("mean quality")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")


def _edge(x: Array, y: Array) -> tuple[Array, Array]:
    a, b = hull(x, y)
    return (a[1:], b[1:]) if len(a) > 1 else (a, b)


def _calibration(report: Report, axes: Any) -> None:
    axes.plot([0, 1], [0, 1], "k:", lw=1, label="perfect")
    for name, bins in report.reliability.items():
        axes.plot(
            bins.predicted, bins.observed, "o-", label=f"{_label(name)} (ECE {bins.error:.3f})"
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("predicted quality")
    axes.set_ylabel("measured quality")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")


def _shares(report: Report, name: str, axes: Any) -> None:
    shares = report.shares[name]
    order = np.argsort(shares.cost, kind="stable")
    share = shares.share[order]
    used = np.argsort(-share.mean(axis=0), kind="stable")
    shown, rest = used[:MOST_MODELS], used[MOST_MODELS:]
    layers = [share[:, m] for m in shown]
    labels = [_label(report.names[m]) for m in shown]
    if len(rest):
        layers.append(share[:, rest].sum(axis=1))
        labels.append(f"{len(rest)} others")
    axes.stackplot(1000.0 * shares.cost[order], layers, labels=labels)
    axes.set_xlabel(f"USD per 1,000 requests spent by {_label(name)}")
    axes.set_ylabel("share of the requests")
    axes.set_ylim(0, 1)
    axes.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))
