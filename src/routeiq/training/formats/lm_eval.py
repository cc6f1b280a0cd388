"""lm-evaluation-harness: `samples_<task>_<time>.jsonl`, one model per folder.

The harness writes `<output>/<model>/samples_<task>_<time>.jsonl` when told to log samples: the folder is the
model. Of several metrics the first of `METRICS` counts; of several filters of one sample (strict and flexible
answer extraction) the mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .base import BadRow, Cell, Format, Item, Row, identifier, last_question, number, shown
from .trees import task_of

METRICS = ("acc_norm", "acc", "exact_match", "pass@1", "pass_at_1", "em", "f1", "score")
_QUESTIONS = ("question", "query", "problem", "prompt", "input", "instruction", "text")


def _convert(row: Row) -> Iterable[Item]:
    path = Path(row.file)
    task = task_of(path).removeprefix("samples_")
    document = identifier(row.values, "doc_id", default=str(row.number))
    yield Cell(
        key=f"{task}\n{document}",
        id=f"{task}-{document}",
        text=_question(row),
        task=task,
        model=path.resolve().parent.name.replace("__", "/"),
        score=_score(row),
    )


def _score(row: Row) -> float:
    given = row.values.get("metrics")
    stated = [one for one in given if isinstance(one, str)] if isinstance(given, list) else []
    for name in (*(one for one in METRICS if one in stated or not stated), *stated):
        value = row.values.get(name)
        if isinstance(value, bool | int | float):
            score = number(value, name)
            if score is not None:
                return score
    raise BadRow(f"no metric is known; looked for {', '.join(METRICS)}")


def _question(row: Row) -> str:
    """The document's own question where it is named so, else the last question of what was sent."""
    document = row.values.get("doc")
    if isinstance(document, Mapping):
        for name in _QUESTIONS:
            given = document.get(name)
            if isinstance(given, str) and given.strip():
                return given
    return last_question(_sent(row.values.get("arguments")))


def _sent(arguments: Any) -> str:
    """Newer versions write `{gen_args_0: {arg_0: prompt}}`, older ones `[[prompt, ...]]`."""
    if isinstance(arguments, Mapping) and arguments:
        first = next(iter(arguments.values()))
        prompt = first.get("arg_0") if isinstance(first, Mapping) else None
    elif isinstance(arguments, list) and arguments and isinstance(arguments[0], list):
        prompt = arguments[0][0] if arguments[0] else None
    else:
        prompt = None
    if isinstance(prompt, str) and prompt.strip():
        return prompt
    raise BadRow(f"neither `doc` nor `arguments` has a question: {shown(arguments)}")


LM_EVAL = Format(
    name="lm-eval",
    title="lm-evaluation-harness samples",
    matches=lambda values: {"doc_id", "doc", "resps"} <= values.keys(),
    convert=_convert,
)
