"""Whether two answers say the same, and whether one answer is usable at all; for answers that can be checked.

Works on the bodies of chat completions, completions and responses in OpenAI's format. What cannot be compared
(long prose) never agrees: the cascade goes on, which costs money but no quality.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

import orjson

from routeiq.types import Capability, JsonObject, RoutingRequest

SHORT = 80
"""Characters up to which a plain answer is compared word by word."""
TAIL = 400
"""Characters at the end of a longer answer in which its conclusion is looked for."""

_FENCE = re.compile(r"^\s*```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*$", re.DOTALL)
_BOXED = re.compile(r"\\boxed\{([^{}]{1,80})\}")
_HASHES = re.compile(r"####\s*(.{1,80})\s*$", re.MULTILINE)
_LETTER = re.compile(
    r"(?i:answer|option|choice|antwort|réponse|respuesta|risposta|resposta|ответ|答案|答え)"
    r"[^\nA-Za-z0-9]{0,6}(?i:(?:is|ist|est|es|è|é|:)\s*)?[^\nA-Za-z0-9]{0,4}([B-HJ]|[AI](?!\s[a-z]))(?![A-Za-z0-9'])"
)
_BARE_LETTER = re.compile(r"^[\s(*\[]*([A-J])(?:[).:\]*]+(?:\s|$)|$)")
_NUMBER = re.compile(r"-?\d[\d,\u00a0\u202f' ]*(?:\.\d+)?")
_GROUPS = str.maketrans("", "", ",\u00a0\u202f' ")
_REFUSAL = re.compile(
    r"^\W*(?:i(?:'|\u2019)?m (?:sorry|unable|not able|afraid)|i (?:cannot|can(?:'|\u2019)?t|am unable|am not able)"
    r"|sorry|as an ai|unfortunately, i (?:cannot|can(?:'|\u2019)?t)"
    r"|es tut mir leid|ich kann (?:das|dir|ihnen) nicht|je suis désolé|je ne peux pas|lo siento|no puedo"
    r"|mi dispiace|não posso|desculpe|извините|я не могу|抱歉|对不起|我无法|申し訳|죄송)",
    re.IGNORECASE,
)
_CUT = frozenset({"length", "max_tokens", "max_output_tokens", "incomplete", "content_filter"})


def answer_text(body: JsonObject) -> str:
    """The text of the first answer in a body; empty where there is none."""
    return "".join(_texts(body))


def final_answer(text: str, *, numeric: bool = False) -> str | None:
    r"""What an answer comes down to, normalised; `None` where that cannot be told.

    Tried in this order: JSON (compared by value), `\boxed{}` and `####`, the letter of a choice, a short text.
    With `numeric`, the last number of the text counts when nothing else is found.
    """
    text = text.strip()
    if not text:
        return None
    document = _json(text)
    if document is not None:
        return document
    tail = text[-TAIL:]
    marked = _BOXED.findall(tail) or _HASHES.findall(tail)
    if marked:
        return _plain(marked[-1])
    letters = _LETTER.findall(tail)
    if letters:
        return f"choice {letters[-1]}"
    bare = _BARE_LETTER.match(text)
    if bare is not None:
        return f"choice {bare[1]}"
    if numeric:
        numbers = _NUMBER.findall(tail)
        if numbers:
            return _plain(numbers[-1])
    return _plain(text) if len(text) <= SHORT else None


def agree(one: str, other: str, *, numeric: bool = False) -> bool:
    """Whether two answers come down to the same thing."""
    first = final_answer(one, numeric=numeric)
    return first is not None and first == final_answer(other, numeric=numeric)


def usable(request: RoutingRequest, body: JsonObject) -> bool:
    """Whether an answer passes the checks that need no other answer.

    It has text (or tool calls), was not cut off, is no refusal, and is JSON where JSON was asked for.
    """
    if _is_cut(body):
        return False
    if has_tool_calls(body):
        return True
    text = answer_text(body).strip()
    if not text or _REFUSAL.match(text):
        return False
    if request.needs & {Capability.JSON_OBJECT, Capability.JSON_SCHEMA}:
        document = _json(text)
        return document is not None and document.startswith(("{", "["))
    return True


def has_tool_calls(body: JsonObject) -> bool:
    """Whether the model wants to call a tool instead of answering."""
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        message = choices[0].get("message")
        return isinstance(message, dict) and bool(message.get("tool_calls"))
    output = body.get("output")
    return isinstance(output, list) and any(
        isinstance(item, dict) and item.get("type") == "function_call" for item in output
    )


def _texts(body: JsonObject) -> Iterator[str]:
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        message = choices[0].get("message")
        text = message.get("content") if isinstance(message, dict) else choices[0].get("text")
        yield from _parts(text)
        return
    output = body.get("output")
    for item in output if isinstance(output, list) else ():
        if isinstance(item, dict) and item.get("type") == "message":
            yield from _parts(item.get("content"))


def _parts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                yield part["text"]


def _is_cut(body: JsonObject) -> bool:
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0].get("finish_reason") in _CUT
    return body.get("status") in _CUT


def _json(text: str) -> str | None:
    """The canonical form of an object or array, `None` for everything else."""
    fenced = _FENCE.match(text)
    text = (fenced[1] if fenced else text).strip()
    if not text.startswith(("{", "[")):
        return None
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # prose that begins with a bracket
        return None


def _plain(text: str) -> str | None:
    """A number by value, else the lower-case words."""
    text = text.strip().strip("$*`\"'. ")
    number = text.translate(_GROUPS).removesuffix("%").removesuffix(".")
    try:
        value = Decimal(number)
    except InvalidOperation:
        words = re.findall(r"\w+", text.lower())
        return " ".join(words) or None
    return f"{value.normalize():f}" if value.is_finite() and abs(value.adjusted()) < 40 else number
