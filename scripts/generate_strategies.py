"""Fill the generated parts of docs/reference/strategies.md: options from the code, figures from evaluation runs.

python scripts/generate_strategies.py            write the page
python scripts/generate_strategies.py --check    say whether it is stale; ends with 1 if it is

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`. Figures come from
docs/reference/strategies/*.json, which `bench.strategies`, `bench.decisions` and `bench.footprint` write.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from routeiq.registry import BUILTIN_STRATEGIES, strategy_class

ROOT = Path(__file__).parent.parent
PAGE = "docs/reference/strategies.md"
RESULTS = ROOT / "docs/reference/strategies"
PART = re.compile(
    r"(?P<head><!-- generated: (?P<name>[^>]+) -->\n).*?(?P<tail><!-- end -->)", re.DOTALL
)
BASELINES = ("oracle", "prior", "LiteLLM complexity", "prompt length", "mix of singles", "random")
NONE = "-"
NAMES = {"mix of singles": "best single (AIQ: mix of singles)"}
Result = dict[str, Any]


def main() -> None:
    """Write, or compare."""
    check = "--check" in sys.argv[1:]
    stale = []
    for name, content in generated().items():
        path = ROOT / name
        if path.read_text(encoding="utf-8") != content:
            stale.append(name)
            if not check:
                path.write_text(content, encoding="utf-8")
    for name in stale:
        print(f"{name}: {'is stale, run `make docs`' if check else 'written'}")
    sys.exit(1 if check and stale else 0)


def generated() -> dict[str, str]:
    """The page as it should be."""
    return {PAGE: filled((ROOT / PAGE).read_text(encoding="utf-8"))}


def filled(text: str) -> str:
    """A page with its generated parts made anew.

    Raises:
        KeyError: a part has a name that is not known here.
    """
    return PART.sub(lambda found: found["head"] + part(found["name"]) + found["tail"], text)


def part(name: str) -> str:
    """What stands in a part."""
    what, _, about = name.partition(" ")
    makers: dict[str, Callable[[str], str]] = {
        "strategies": lambda _: overview(),
        "options": options_table,
        "results": lambda _: "\n".join(results_of(one) for one in results()),
        "few": lambda _: "\n".join(few_of(one) for one in results() if one.get("few")),
        "decisions": lambda _: decisions(read("decisions.json")),
        "footprint": lambda _: footprint(read("footprint.json")),
    }
    return makers[what](about)


def read(name: str) -> Result:
    """A result file."""
    found: Result = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return found


def results() -> list[Result]:
    """The results of `bench.strategies`, in the order of their names."""
    found = [read(path.name) for path in sorted(RESULTS.glob("*.json"))]
    return [one for one in found if "baselines" in one]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    cells = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in lines)
    return "".join(f"| {row} |\n" for row in cells)


def overview() -> str:
    """All built-in strategies in one table."""
    rows = []
    for name in BUILTIN_STRATEGIES:
        strategy = strategy_class(name)
        traits = strategy.traits
        options = ", ".join(f"`{one}`" for one in strategy.Options.model_fields)
        rows.append(
            [
                f"[`{name}`](#{name})",
                traits.scores,
                "artifact" if getattr(strategy, "estimators", None) else NONE,
                "yes" if traits.learns_online else NONE,
                traits.maturity,
                options or NONE,
            ]
        )
    head = ["name", "scores", "trained", "learns from feedback", "maturity", "options"]
    return table(head, rows)


def options_table(name: str) -> str:
    """A strategy's own options: all of them, or for a learned one those that it does not share."""
    model = strategy_class(name).Options
    words = documented(model)
    rows = [
        [f"`{key}`", kind(field.annotation, field.metadata), default(field), words.get(key, "")]
        for key, field in model.model_fields.items()
        if name == "hybrid" or key not in shared_options() or not trained(name)
    ]
    return table(["option", "type", "default", "meaning"], rows)


def trained(name: str) -> bool:
    """Whether a strategy serves an artifact."""
    return bool(getattr(strategy_class(name), "estimators", None))


def shared_options() -> frozenset[str]:
    """The options that every trained strategy has."""
    return frozenset(strategy_class("hybrid").Options.model_fields)


def documented(model: type[BaseModel]) -> dict[str, str]:
    """The docstrings under the fields of a model and of its bases."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if one is BaseModel or not issubclass(one, BaseModel):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        assert isinstance(body, ast.ClassDef)
        found |= dict(attribute_docs(body))
    return found


def attribute_docs(body: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Name and docstring of each field that has one."""
    for field, doc in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(doc, ast.Expr)
            and isinstance(doc.value, ast.Constant)
        ):
            yield field.target.id, " ".join(str(doc.value.value).split())


def kind(annotation: Any, limits: Sequence[Any] = ()) -> str:
    """A field's type in words, with its limits."""
    if get_args(annotation) and get_origin(annotation) is not None:
        inner = [one for one in get_args(annotation) if one is not type(None)]
        if hasattr(annotation, "__metadata__"):
            return kind(inner[0], annotation.__metadata__)
        return " or ".join(dict.fromkeys(kind(one, limits) for one in inner))
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}
    name = names.get(getattr(annotation, "__name__", ""), "value")
    bounds = [shown for limit in limits for shown in limit_text(limit)]
    return f"{name}, {', '.join(bounds)}" if bounds else name


def limit_text(limit: Any) -> Iterator[str]:
    """Bounds in words."""
    for one in getattr(limit, "metadata", None) or [limit]:
        for attribute, words in (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below")):
            value = getattr(one, attribute, None)
            if value is not None:
                yield f"{words} {value:g}"


def default(field: Any) -> str:
    """A default as it is written in YAML."""
    value = field.default
    if value is None:
        return NONE
    if isinstance(value, str) and "\n" in value:
        return "built in"
    return f"`{json.dumps(value)}`"


def results_of(result: Result) -> str:
    """The figures of one data set."""
    name = result["set"]
    versions = ", ".join(f"{key} {value}" for key, value in result["versions"].items())
    dates = sorted({one["date"] for one in result["strategies"].values()})
    loads = [one["load_average"] for one in result["strategies"].values()]
    lines = [
        f"### Data set: {name}\n",
        f"{result['train_rows']:,} rows for training, {result['test_rows']:,} for these figures; "
        f"{result['models']} models, {result['task_count']} tasks; best single model `{result['reference']}`. "
        f"Split and fitted with seed {result['seed']}; {result['resamples']:,} resamples. Rows: sha256 "
        f"`{result['data_sha256'][:16]}`. {versions}. {dates[-1]}, load average {min(loads):g} to {max(loads):g} "
        f"on {result['machine']['cores']} cores.\n",
        f"```\n{result['command']}\n```\n",
        figures_table(result),
        f"![Cost and quality on {name}](strategies/{name}.svg)\n",
    ]
    if result["pair"]:
        lines.insert(-1, pair_table(result))
    return "\n".join(lines)


def figures_table(result: Result) -> str:
    """Figures over all rows, strategies by AIQ, then the baselines."""
    head = ["strategy", "accuracy", "@100%", "AIQ", "AIQ gain [95 %]", "saved", "AUC", "ECE"]
    head += ["by chance", "training, CPU s", "artifact, MB"]
    rows = [
        [f"**{name}**" if name == "hybrid" else name, *cells(one), *costs(one)]
        for name, one in ranked(result)
    ]
    rows += [[NAMES.get(name, name), *cells(one), "", ""] for name, one in baselines(result)]
    return table(head, rows)


def ranked(result: Result) -> list[tuple[str, Result]]:
    """The strategies, best AIQ first, equals by name."""
    return sorted(
        result["strategies"].items(), key=lambda item: (-item[1]["metrics"]["aiq"], item[0])
    )


def baselines(result: Result, of: str = "baselines") -> Iterator[tuple[str, Result]]:
    """The baselines that are there, in the order of `BASELINES`."""
    found = result[of]
    return ((name, found[name]) for name in BASELINES if name in found)


def cells(one: Result) -> list[str]:
    """The figures of a line."""
    metrics = one["metrics"]
    gain = spanned(one, "aiq_gain", "+.3f")
    found = [figure(metrics.get(key), ".3f") for key in ("accuracy", "at_100", "aiq")]
    saved = metrics.get("saved")
    return [
        *found,
        gain,
        figure(saved, ".0%"),
        figure(metrics.get("auc"), ".3f"),
        figure(metrics.get("ece"), ".3f"),
        figure(one.get("chance_ece"), ".3f"),
    ]


def costs(one: Result) -> list[str]:
    """What a strategy's training took and left."""
    return [f"{one['training_cpu_s']:.1f}", f"{one['artifact_mb']:.2f}"]


def figure(value: float | None, form: str) -> str:
    """A number, or a dash."""
    return NONE if value is None else f"{value:{form}}"


def spanned(one: Result, key: str, form: str) -> str:
    """A number with its interval, where there is one."""
    value = one["metrics"].get(key)
    low, high = one["intervals"].get(key) or (None, None)
    if value is None or low is None or high is None:
        return figure(value, form)
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def pair_table(result: Result) -> str:
    """A strong and a weak model: APGR, CPT50 and CPT80 for each task."""
    tasks = list(result["tasks"].items())
    head = ["strategy"]
    for task, rows in tasks:
        head += [f"{task} ({rows:,}): APGR [95 %]", "CPT50 / CPT80"]
    strong, weak = result["pair"]
    lines = [[name, *pair_cells(one["by_task"], tasks)] for name, one in ranked(result)]
    by_task = result["baselines_by_task"]
    for name in BASELINES:
        parts = {task: by_task[task][name] for task, _ in tasks if name in by_task[task]}
        if any("apgr" in one["metrics"] for one in parts.values()):
            lines.append([name, *pair_cells(parts, tasks)])
    return f"`{strong}` against `{weak}`, by task (rows in brackets):\n\n{table(head, lines)}"


def pair_cells(parts: Result, tasks: Sequence[tuple[str, int]]) -> list[str]:
    """The figures of a line of `pair_table`."""
    found = []
    for task, _ in tasks:
        metrics = parts[task]["metrics"]
        found.append(spanned(parts[task], "apgr", ".3f"))
        cpt = [figure(metrics.get(key), ".0%") for key in ("cpt_50", "cpt_80")]
        found.append(" / ".join(cpt))
    return found


def few_of(result: Result) -> str:
    """What few labels are worth, beside all of them."""
    few = result["few"]
    kind_ = few["kind"]
    tasks = list(result["tasks"])
    rows = [
        [f"{int(size):,}", *few_cells(one, [one.get(f"apgr {task}") for task in tasks])]
        for size, one in few["by_rows"].items()
    ]
    whole = result["strategies"].get(kind_)
    if whole is not None:
        apgr = [whole["by_task"][task]["metrics"].get("apgr") for task in tasks]
        rows.append([f"{result['train_rows']:,} (all)", *few_cells(whole["metrics"], apgr)])
    best = result["baselines"]["mix of singles"]["metrics"]
    rows.append(["best single model", *few_cells(best, [None for _ in tasks])])
    head = ["labelled prompts", "accuracy", "@100%", "AIQ", "saved", "ECE"]
    head += [f"APGR {task}" for task in tasks]
    return (
        f"{result['set']}, `{kind_}`, means of {few['draws']} random subsets of the training rows:\n\n"
        + table(head, rows)
    )


def few_cells(metrics: Result, apgr: Sequence[float | None]) -> list[str]:
    """The figures of a line of `few_of`."""
    found = [figure(metrics.get(key), ".3f") for key in ("accuracy", "at_100", "aiq")]
    found += [figure(metrics.get("saved"), ".0%"), figure(metrics.get("ece"), ".3f")]
    return [*found, *(figure(value, ".3f") for value in apgr)]


def decisions(result: Result) -> str:
    """CPU milliseconds of a decision."""
    rows = []
    for name, parts in result["strategies"].items():
        cells_ = [milliseconds(parts.get(key)) for key in ("features", "score", "decide")]
        rows.append([name, *cells_, lag_text(result["loop_lag"][name])])
    machine = result["machine"]
    return (
        f"{result['date']}, {machine['cores']} cores of {machine['processor']}, load average "
        f"{result['load_average']:g}, Python {result['versions']['python']}, numpy "
        f"{result['versions']['numpy']}; {result['requests']:,} prompts of {result['tokens']} tokens, "
        f"{result['candidates']} candidates, best of {result['rounds']} rounds.\n\n"
        f"```\n{result['command']}\n```\n\n"
        + table(
            [
                "strategy",
                "features p50 / p99",
                "score",
                "whole decision",
                "loop lag p99, CPU / clock",
            ],
            rows,
        )
    )


def lag_text(one: Result) -> str:
    """The 99th percentile by CPU time, and by the clock."""
    return f"{one['cpu_p99_ms']:.2f} / {one['p99_ms']:.2f}"


def milliseconds(one: Result | None) -> str:
    """Median and 99th percentile."""
    return NONE if one is None else f"{one['p50_ms']:.3f} / {one['p99_ms']:.3f}"


def footprint(result: Result) -> str:
    """What an artifact adds to the memory of a gateway."""
    added, gateways = result["added"], result["gateways"]
    rows = [
        [
            name,
            f"{one['shared_mb']:.1f}",
            f"{sum(one['private_mb']) / len(one['private_mb']):.1f}",
            f"{one['total_mb']:.1f}",
        ]
        for name, one in gateways.items()
    ]
    more = [f"{added[key]:.1f}" for key in ("shared_mb", "private_mb", "total_mb")]
    rows.append([f"added by `{result['strategy']}` with its features", *more])
    return (
        f"{result['date']}, {result['workers']} workers, {result['requests']:,} prompts each, an artifact of "
        f"{result['artifact_mb']:.1f} MB.\n\n```\n{result['command']}\n```\n\n"
        + table(["gateway", "shared, MB", "each worker's own, MB", "all processes (PSS), MB"], rows)
    )


if __name__ == "__main__":
    main()
