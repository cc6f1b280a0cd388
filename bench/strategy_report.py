"""Reading and writing the results of `bench.strategies`: JSON, a plot, a line of text."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Result = dict[str, Any]
FIGURES = ("accuracy", "at_100", "aiq", "saved", "auc", "ece", "apgr")
BASELINES = ("random", "prompt length", "LiteLLM complexity", "prior", "mix of singles", "oracle")
PLAIN = {"random": ("grey", ""), "mix of singles": ("black", "--"), "oracle": ("green", ":")}


def read_result(path: Path) -> Result | None:
    """What an earlier run wrote, if one did."""
    if not path.exists():
        return None
    found: Result = json.loads(path.read_text(encoding="utf-8"))
    return found


def write_result(path: Path, result: Result) -> None:
    """The JSON file, whole or not at all, and the plot beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    os.replace(aside, path)
    path.with_suffix(".svg").write_text(plot(result), encoding="utf-8")


def summary(result: Result, name: str) -> str:
    """The figures of a strategy, or of all baselines, on a line each."""
    lines = result["baselines"] if name == "baselines" else {name: result["strategies"][name]}
    return "\n".join(f"{result['set']:20}{key:22}{_figures(one)}" for key, one in lines.items())


def _figures(one: Result) -> str:
    metrics = one["metrics"]
    shown = [f"{key} {metrics[key]:.3f}" for key in FIGURES if metrics.get(key) is not None]
    for task, part in one.get("by_task", {}).items():
        if part["metrics"].get("apgr") is not None:
            shown.append(f"{task} {part['metrics']['apgr']:.3f}")
    return "  ".join(shown)


def plot(result: Result) -> str:
    """Cost-quality curves of a set as SVG, the same bytes for the same result."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "routeiq", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(8.0, 4.8), layout="constrained")
        _draw(result, figure.subplots())
        return _svg(figure)


def _draw(result: Result, axes: Any) -> None:
    for one in result["singles"]:
        axes.plot(one["usd_1k"], one["quality"], "k.", ms=5)
    for name, one in result["baselines"].items():
        if name in BASELINES:
            colour, style = PLAIN.get(name, (None, "-."))
            _curve(axes, name, one["curve"], colour, style, 1.0)
    # The offline part of `adaptive` is a hybrid: its curve would lie on the other.
    shown = {name: one for name, one in result["strategies"].items() if name != "adaptive"}
    for name, one in sorted(shown.items(), key=lambda item: item[0] == "hybrid"):
        main = name == "hybrid"
        _curve(axes, name, one["curve"], "red" if main else None, "-", 2.4 if main else 0.9)
    axes.set_xscale("log")
    axes.set_xlabel("USD per 1,000 requests")
    axes.set_ylabel("mean quality")
    axes.set_title(f"{result['set']}: {result['test_rows']:,} prompts that were not trained on")
    axes.grid(visible=True, alpha=0.3)
    axes.figure.legend(fontsize="small", loc="outside right upper", frameon=False)


def _curve(axes: Any, name: str, curve: Any, colour: Any, style: str, width: float) -> None:
    x, y = [cost for cost, _ in curve], [quality for _, quality in curve]
    if style:
        axes.plot(x, y, style, color=colour, lw=width, label=name)
    else:
        axes.plot(x[-1:], y[-1:], "x", color=colour, label=name)


def _svg(figure: Any) -> str:
    from io import StringIO

    out = StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None}, facecolor="white")
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
