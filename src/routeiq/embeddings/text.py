"""Which part of a request is embedded: the question, not what stands around it.

The same rules hold in training and in serving, so a training row and the live request with the same words
have the same features:

1. The question is the last user turn. Of a text beyond 4,000 characters the first and the last half of them
   count, as in `routing/request.py` (and so it makes no difference which of the two cut it).
2. A few-shot prefix is dropped: where lines begin with the label of a question (`Q:`, `Question:`, `Problem:`,
   `Input:`), then of an answer, then of a question again, the question is what follows the last such label.
3. What is embedded of the question are its first and last 1,024 characters: instructions stand at either end.
4. The gist of the system prompt is its beginning, at most 256 characters, up to the end of a sentence.

Labels of exemplars are the English ones that public benchmarks use, and their Chinese, German, French and
Spanish counterparts. Other prefixes stay: to lose a question is worse than to embed an example.
"""

from __future__ import annotations

import re

TEXT_LIMIT = 4000
"""Characters of a text that count."""
EDGE = 1024
"""Characters at each end of a question that are embedded."""
GIST = 256
"""Characters of a system prompt that are embedded."""
SHOTS = 1
"""Answered examples from which on a text is a few-shot prompt."""

_ASK = "q|question|problem|input|frage|pregunta|问题|問題"
_ANSWER = "a|answer|solution|output|antwort|réponse|respuesta|答案|答え|回答"
_LABEL = re.compile(
    rf"^[ \t]*(?:#+[ \t]*)?\**(?:(?P<ask>{_ASK})|(?P<answer>{_ANSWER}))[ \t]*\d{{0,3}}\**[ \t]*[:\uff1a]\**",
    re.IGNORECASE | re.MULTILINE,
)
_HINTS = (":", "\uff1a")
_SENTENCE = re.compile(r"[.!?。!?](?=\s|$)|[。!?]|\n")


def question(text: str) -> str:
    """A user turn without its few-shot prefix, at most 4,000 characters (and a line break)."""
    text = bounded(text)
    if len(text) < 64 or not any(hint in text for hint in _HINTS):
        return text
    return _last_shot(text)


def edges(text: str) -> str:
    """The part of a question that is embedded: its first and last 1,024 characters."""
    if len(text) <= 2 * EDGE:
        return text
    return f"{text[:EDGE]}\n{text[-EDGE:]}"


def gist(system: str) -> str:
    """The beginning of a system prompt, up to the end of a sentence where there is one."""
    start = system.strip()
    if len(start) <= GIST:
        return start
    ends = [match.end() for match in _SENTENCE.finditer(start, 0, GIST)]
    return start[: ends[-1]].rstrip() if ends else start[:GIST]


def bounded(text: str) -> str:
    """The first and the last half of `TEXT_LIMIT` characters of a longer text, with a line break between."""
    if len(text) <= TEXT_LIMIT:
        return text
    return f"{text[: TEXT_LIMIT // 2]}\n{text[-TEXT_LIMIT // 2 :]}"


def _last_shot(text: str) -> str:
    labels = list(_LABEL.finditer(text))
    asks = [match for match in labels if match["ask"]]
    if len(asks) <= SHOTS or not _answered(labels):
        return text
    for match in reversed(asks):
        if asked := text[match.end() :].strip():
            return asked
    return text


def _answered(labels: list[re.Match[str]]) -> bool:
    """Whether an answer stands between the first `SHOTS` questions and those after them."""
    kinds = ["?" if match["ask"] else "!" for match in labels]
    return "?!" * SHOTS + "?" in "".join(kinds)
