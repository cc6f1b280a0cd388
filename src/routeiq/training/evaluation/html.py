"""A report as one HTML file: no script, no request to anywhere, every name escaped, plots as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from .compare import Comparison
from .plots import svg
from .report import Report
from .tables import difference_rows, entry_rows, interval_rows, model_rows, slice_rows

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Content security policy of the page: it can load nothing."""
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;margin:.5rem 0 1.5rem;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
.wide{overflow-x:auto} svg{max-width:100%;height:auto}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}td,th{border-color:#444}svg{background:#fff}}
"""
TITLES = {"cost_quality": "Cost and quality", "calibration": "Calibration"}


def report_html(report: Report, *, title: str = "Evaluation") -> str:
    """The page of one evaluation.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    return _page(title, _body(report, svg(report)))


def comparison_html(comparison: Comparison, *, title: str = "Comparison") -> str:
    """The page of a comparison: the differences first, then the report.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    base = comparison.differences[0].base
    first = [f"<h2>Differences to {escape(base)}</h2>", _table(difference_rows(comparison))]
    return _page(title, [*first, *_body(comparison.report, svg(comparison.report))])


def _body(report: Report, drawn: Mapping[str, str]) -> list[str]:
    chosen = "as asked for" if report.reference_given else "the best single model on these rows"
    parts = [
        f"<p>{report.rows} rows, {len(report.names)} models, {report.coverage:.0%} of the scores known. "
        f"Reference: <b>{escape(report.reference)}</b> ({chosen}). Intervals: 95 %, "
        f"{report.settings.resamples} paired resamples, seed {report.settings.seed}."
        + (f" Data: <code>{escape(report.data_sha256)}</code>." if report.data_sha256 else "")
        + "</p>",
        "<h2>Strategies and baselines</h2>",
        _table(entry_rows(report.entries)),
        "<h3>95 % intervals</h3>",
        _table(interval_rows(report.entries)),
    ]
    for name, drawing in drawn.items():
        parts += [f"<h2>{escape(TITLES.get(name, name.replace('_', ' ')))}</h2>", drawing]
    for name, models in report.models.items():
        parts += [f"<h2>Models as {escape(name)} sees them</h2>", _table(model_rows(models))]
    for name, slices in report.slices.items():
        if slices:
            parts += [f"<h2>{escape(name)} by task</h2>", _table(slice_rows(slices))]
    return [*parts, *(f"<p>Note: {escape(note)}</p>" for note in report.notes)]


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += [
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body
    ]
    return '<div class="wide"><table>' + "\n".join(lines) + "</table></div>"


def _page(title: str, parts: Sequence[str]) -> str:
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            *parts,
            "</body></html>",
            "",
        ]
    )
