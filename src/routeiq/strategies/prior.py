"""Routing without any training: how hard is the request, how good is each model.

Difficulty in [0, 1] is a sum of a few signs with round weights (`WEIGHTS`): half of it is the length, on a
logarithmic scale; the rest are things that can be pointed at in the text. A model's quality is the operator's,
else what its tier, its list price or its name suggest (`quality.py`). The predicted quality of an answer is

    1 - chance * (1 - quality ** 3)    with    chance = 0.03 + 0.97 * difficulty

The hardest request is a chain of three steps that must all succeed; `chance` is how likely a request is to be of
that kind. So every model does well on easy requests, weak ones fall first, and the gap between any two models
grows in proportion to `chance`. Around difficulty 0.4, where examination questions lie, the prediction is close to
the quality itself.

The weights were set by hand on public data; `scripts/measure_prior.py` measures what they are worth, sign by
sign. That length alone orders requests about as well as published routers that were trained on preference
data is measured in docs/reference/strategies.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import log2
from typing import ClassVar

from routeiq.base import RoutingStrategy
from routeiq.types import (
    Candidate,
    Capability,
    Deployment,
    LoadContext,
    RoutingRequest,
    StrategyTraits,
)

from .lexicon import (
    CODE,
    LEXICON,
    MARKS,
    MATHS,
    NEGATION,
    QUANTITIES,
    REASONING,
    SCRIPTS,
    SIMPLE,
    WRITING,
)
from .quality import quality as quality

LENGTH, CLAUSES, SENTENCES, NUMBERS, PARTS = (
    "length",
    "many clauses",
    "many sentences",
    "numbers",
    "several cases at once",
)
EFFORT, TOOLS, FORMAT, TURNS = (
    "reasoning asked for",
    "tools",
    "strict format",
    "long conversation",
)
WEIGHTS = {
    LENGTH: 0.50,
    PARTS: 0.25,
    REASONING: 0.40,
    CODE: 0.30,
    QUANTITIES: 0.20,
    MATHS: 0.05,
    CLAUSES: 0.10,
    SENTENCES: 0.10,
    NUMBERS: 0.05,
    NEGATION: 0.05,
    EFFORT: 0.30,
    TOOLS: 0.05,
    FORMAT: 0.05,
    TURNS: 0.05,
    WRITING: -0.15,
    SIMPLE: -0.10,
}
"""How much each sign adds to the difficulty when it is there in full."""

FULL = {QUANTITIES: 3, CODE: 1, REASONING: 2, MATHS: 2, NEGATION: 1, WRITING: 1, SIMPLE: 1}
"""How many different words of a kind say all that the kind can say; fewer count in proportion."""
SHORTEST, LONGEST = 32, 4096
"""Characters at which the length says nothing, and all it can; logarithmic between."""
WIDE_CHARACTERS = 2.5
"""Latin characters that a Chinese, Japanese or Korean one is worth: such texts are that much shorter."""
MOST = 15
"""Commas, sentences and numbers of which more say nothing more; logarithmic below."""
MANY_TURNS = 4
LIMIT = 4000
"""Characters that are looked at: of longer texts the first and the last half of so many."""
STEPS = 3
"""Steps of the hardest requests, all of which must succeed."""
EASY = 0.03
"""How likely a request of difficulty 0 is to need all steps: a better model is always a little surer."""
SHOWN = 0.02
"""A sign that adds less is not named in the explanation."""

OTHER_COMMAS, OTHER_STOPS = "\uff0c\u3001\u060c", "\u3002\uff1f\uff01\u0964\u061f"
"""Commas and full stops, question and exclamation marks of other scripts."""

_PUNCTUATION = str.maketrans(
    dict.fromkeys(
        ".,:;?!()[]{}\"'|\u3002\uff0c\u3001\uff1f\uff01\uff1a\uff1b\uff08\uff09\u300c\u300d\u061f\u060c\u061b\u0964",
        " ",
    )
)
_KNOWN = frozenset(LEXICON)
_SPAN = log2(LONGEST / SHORTEST)
_MOST = log2(1 + MOST)
_WIDE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
_LISTED = re.compile(r"(?:^|\n)\s*(?:1[.)]|[aA]\))\s(?:.|\n)*?\n\s*(?:2[.)]|[bB]\))\s")
_NUMBERED = re.compile(r"([^\W\d_]{3,}) ([12])\b")
_NEED_SIGNS = (
    (EFFORT, Capability.REASONING),
    (TOOLS, Capability.TOOLS),
    (FORMAT, Capability.JSON_SCHEMA),
)


class PriorStrategy(RoutingStrategy):
    """Predicts each model's quality from the request's difficulty and what is known about the model."""

    name: ClassVar[str] = "prior"
    traits: ClassVar[StrategyTraits] = StrategyTraits(scores="quality")

    def __init__(self, options: object = None) -> None:
        super().__init__(options)
        self._qualities: dict[str, float] = {}
        self._last: tuple[RoutingRequest | None, float, tuple[str, ...]] = (None, 0.0, ())

    def load(self, context: LoadContext) -> None:
        """Work out every deployment's quality once."""
        self._qualities = {
            d.id: quality(d.facts, d.model) for d in context.deployments if "*" not in d.model
        }

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Predicted quality of each candidate's answer."""
        hard, _ = self._seen(request)
        return [prior_score(self.quality_of(each.deployment), hard) for each in candidates]

    def quality_of(self, deployment: Deployment) -> float:
        """The quality of a deployment's model; looked up in `load` where it was known then."""
        known = self._qualities.get(deployment.id)
        return quality(deployment.facts, deployment.model) if known is None else known

    def explain(self, request: RoutingRequest) -> str:
        """The difficulty and the signs it was read from."""
        hard, signs = self._seen(request)
        return f"difficulty {hard:.2f} ({', '.join(signs) or 'short and plain'})"

    def _seen(self, request: RoutingRequest) -> tuple[float, tuple[str, ...]]:
        last, hard, signs = self._last
        if last is not request:  # `explain` follows `score` on the same request
            hard, signs = assess(request)
            self._last = (request, hard, signs)
        return hard, signs


def prior_score(quality: float, difficulty: float) -> float:
    """P(good answer) of a model of this quality, in [0, 1].

    The difference between two models rises linearly with the difficulty, whatever their qualities.
    """
    return 1.0 - (EASY + (1.0 - EASY) * difficulty) * (1.0 - quality**STEPS)


def difficulty(request: RoutingRequest) -> float:
    """How hard the request is, in [0, 1]."""
    return assess(request)[0]


def assess(request: RoutingRequest) -> tuple[float, tuple[str, ...]]:
    """A request's difficulty in [0, 1] and the names of the signs that were seen, the weightiest first."""
    found = parts(request)
    found.sort(key=_size, reverse=True)
    total = min(1.0, max(0.0, sum([part for _, part in found])))
    return total, tuple([sign for sign, part in found if abs(part) >= SHOWN])


def parts(request: RoutingRequest) -> list[tuple[str, float]]:
    """The signs that were seen and what each adds to the difficulty."""
    found = _text_signs(request.text)
    if request.turns >= MANY_TURNS:
        found[TURNS] = 1.0
    if request.needs:
        found.update((sign, 1.0) for sign, need in _NEED_SIGNS if need in request.needs)
    return [(sign, WEIGHTS[sign] * share) for sign, share in found.items()]


def _size(part: tuple[str, float]) -> float:
    return abs(part[1])


def _text_signs(text: str) -> dict[str, float]:
    """Each sign of the text with how much of it there is, in [0, 1]."""
    if len(text) > LIMIT:
        text = f"{text[: LIMIT // 2]}\n{text[-LIMIT // 2 :]}"
    lower = text.lower()
    distinct = set(lower.translate(_PUNCTUATION).split())
    found: dict[str, float] = {}
    commas, length = text.count(","), float(len(text))
    sentences = text.count(". ") + text.count("? ") + text.count("! ") + text.count(".\n")
    counts = _counts(lower, distinct)
    if not text.isascii():
        commas += sum(map(text.count, OTHER_COMMAS))
        sentences += sum(map(text.count, OTHER_STOPS))
        wide = len(text) - len(_WIDE.sub("", text))
        length += (WIDE_CHARACTERS - 1.0) * wide
    if length > SHORTEST:
        found[LENGTH] = min(1.0, log2(length / SHORTEST) / _SPAN)
    numbers = sum([word[0].isdigit() for word in distinct])
    for sign, count in ((CLAUSES, commas), (SENTENCES, sentences), (NUMBERS, numbers)):
        if count:
            found[sign] = min(1.0, log2(1 + count) / _MOST)
    for kind, count in counts.items():
        found[kind] = min(1.0, count / FULL[kind])
    if _has_parts(text, lower, distinct):
        found[PARTS] = 1.0
    return found


def _counts(lower: str, distinct: set[str]) -> dict[str, int]:
    """Kinds of words and marks, with how many different ones of each."""
    counts: dict[str, int] = {}
    for word in _KNOWN & distinct:
        kind = LEXICON[word]
        counts[kind] = counts.get(kind, 0) + 1
    for mark, kind in MARKS:
        if mark in lower:
            counts[kind] = counts.get(kind, 0) + 1
    if not lower.isascii():
        for script, stems in SCRIPTS:
            if script.search(lower) is not None:
                for stem, kind in stems:
                    if stem in lower:
                        counts[kind] = counts.get(kind, 0) + 1
    return counts


def _has_parts(text: str, lower: str, distinct: set[str]) -> bool:
    """Whether there are several cases to look at: "Scenario 1 ... Scenario 2", "I. II. III.", "1. 2.", "a) b)".

    The lettered options of a multiple-choice question are answers, not cases.
    """
    if "iii" in distinct:
        return True
    if "1" in distinct and "2" in distinct:
        named = set(_NUMBERED.findall(lower))
        if any(number == "1" and (word, "2") in named for word, number in named):
            return True
        return _LISTED.search(text) is not None
    return "a)" in text and "b)" in text and _LISTED.search(text) is not None
