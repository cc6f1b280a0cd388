"""Reports as text for a terminal: aligned columns, `-` for what is not known."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from .compare import Comparison
from .metrics import ModelFigures
from .report import Entry, Report
from .slices import Slice

HEADINGS: dict[str, tuple[str, str]] = {
    "accuracy": ("accuracy", ".4f"),
    "cost_usd_per_1k": ("USD/1k", ".4g"),
    "aiq": ("AIQ", ".4f"),
    "saved": ("saved", ".0%"),
    "at_10": ("@10%", ".4f"),
    "at_25": ("@25%", ".4f"),
    "at_100": ("@100%", ".4f"),
    "perf_gain": ("PerfGain", "+.1%"),
    "oracle_gap": ("Gap@Oracle", ".1%"),
    "arena": ("arena", ".4f"),
    "apgr": ("APGR", ".3f"),
    "cpt_20": ("CPT20", ".1%"),
    "cpt_50": ("CPT50", ".1%"),
    "cpt_80": ("CPT80", ".1%"),
    "auc": ("AUC", ".3f"),
    "ece": ("ECE", ".4f"),
    "ece_pooled": ("ECE pooled", ".4f"),
    "brier": ("Brier", ".4f"),
    "regret": ("regret", ".4f"),
}
"""Metrics in the order of the columns: heading and format."""
WITH_INTERVALS = (
    "accuracy",
    "gain",
    "aiq",
    "aiq_gain",
    "saved",
    "at_100",
    "apgr",
    "cpt_50",
    "cpt_80",
)


def shown(value: float | None, form: str) -> str:
    """A figure as text."""
    return "-" if value is None or not isfinite(value) else format(value, form)


def grid(rows: Sequence[Sequence[str]]) -> str:
    """Rows (the first is the heading) in aligned columns: the first to the left, the others to the right."""
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def report_text(report: Report) -> str:
    """The whole report."""
    chosen = "given" if report.reference_given else "the best single model on these rows"
    lines = [
        f"{report.rows} rows, {len(report.names)} models, {report.coverage:.0%} of the scores known; "
        f"reference {report.reference} ({chosen}); 95 % intervals from {report.settings.resamples} "
        f"paired resamples, seed {report.settings.seed}.",
        "",
        grid(entry_rows(report.entries)),
        "",
        "95 % intervals (gain = accuracy minus the reference's, AIQ gain = AIQ minus the mix of singles')",
        "",
        grid(interval_rows(report.entries)),
    ]
    for name, models in report.models.items():
        lines += ["", f"models as {name} sees them", "", grid(model_rows(models))]
    for name, parts in report.slices.items():
        if parts:
            lines += ["", f"{name} by task", "", grid(slice_rows(parts))]
    lines += ["", *(f"note: {note}" for note in report.notes)] if report.notes else []
    return "\n".join(lines)


def entry_rows(entries: Sequence[Entry]) -> list[list[str]]:
    """One row per strategy and baseline; columns that nobody has are left out."""
    used = [key for key in HEADINGS if any(key in each.metrics for each in entries)]
    rows = [["", *(HEADINGS[key][0] for key in used)]]
    for each in entries:
        cells = [shown(each.metrics.get(key), HEADINGS[key][1]) for key in used]
        rows.append([each.name, *cells])
    return rows


def interval_rows(entries: Sequence[Entry]) -> list[list[str]]:
    """Intervals of the figures that conclusions are drawn from."""
    used = [key for key in WITH_INTERVALS if any(key in each.intervals for each in entries)]
    names = {"gain": "gain", "aiq_gain": "AIQ gain"} | {k: v[0] for k, v in HEADINGS.items()}
    rows = [["", *(names[key] for key in used)]]
    for each in entries:
        cells = []
        for key in used:
            low, high = each.intervals.get(key, (float("nan"), float("nan")))
            form = HEADINGS.get(key, ("", "+.4f"))[1]
            cells.append(f"[{shown(low, form)}, {shown(high, form)}]")
        rows.append([each.name, *cells])
    return rows


def model_rows(models: Sequence[ModelFigures]) -> list[list[str]]:
    """One row per model."""
    rows = [["model", "rows", "accuracy", "USD/1k", "AUC", "ECE", "Brier", "chosen"]]
    for each in models:
        forms = (
            (each.accuracy, ".4f"),
            (each.cost_usd_per_1k, ".4g"),
            (each.auc, ".3f"),
            (each.ece, ".4f"),
            (each.brier, ".4f"),
            (each.share, ".1%"),
        )
        rows.append([each.model, str(each.rows), *(shown(value, form) for value, form in forms)])
    return rows


def slice_rows(parts: Sequence[Slice]) -> list[list[str]]:
    """One row per task."""
    keys = ("accuracy", "aiq", "saved", "at_100", "ece", "apgr", "cpt_50")
    used = [key for key in keys if any(key in each.metrics for each in parts)]
    rows = [["task", "rows", "reference", "gain", "95 %", *(HEADINGS[key][0] for key in used)]]
    for each in parts:
        low, high = each.gain_interval
        rows.append(
            [
                each.task or "(none)",
                str(each.rows),
                shown(each.metrics["reference"], ".4f"),
                shown(each.metrics["gain"], "+.4f"),
                f"[{shown(low, '+.4f')}, {shown(high, '+.4f')}]",
                *(shown(each.metrics.get(key), HEADINGS[key][1]) for key in used),
            ]
        )
    return rows


def comparison_text(comparison: Comparison) -> str:
    """The report, then the differences."""
    first = comparison.differences[0].base
    return "\n".join(
        [
            report_text(comparison.report),
            "",
            f"differences to {first}, paired; 'clear' where the interval leaves out zero",
            "",
            grid(difference_rows(comparison)),
        ]
    )


def difference_rows(comparison: Comparison) -> list[list[str]]:
    """One row per strategy and figure."""
    heading = ["", "figure", "difference", "95 %", ""]
    return [
        heading,
        *(
            [
                each.name,
                HEADINGS[each.metric][0],
                shown(each.value, "+.4f"),
                f"[{shown(each.low, '+.4f')}, {shown(each.high, '+.4f')}]",
                "clear" if each.clear else "",
            ]
            for each in comparison.differences
        ),
    ]
