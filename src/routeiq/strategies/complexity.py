"""Routing by rules, without training: how hard is the request, how good is each model.

Difficulty in [0, 1] is a sum of small pieces of evidence (`WEIGHTS`), each explainable. A model's quality
is the operator's, else a prior from its list price. The predicted quality of an answer is
`quality ** steps` with `steps = (2 * difficulty) ** 2`: a request of medium difficulty (0.5) is one step
that succeeds with the model's quality; an easy one is a fraction of a step; the hardest are a chain of four
that must all succeed. So every model does well on easy requests, and weak ones fall first.

That length and simple lexical signs order requests by difficulty about as well as routers trained on
preference data is measured in docs/reference/strategies.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2, log10
from typing import ClassVar

from routeiq.base import RoutingStrategy
from routeiq.types import (
    Candidate,
    Capability,
    LoadContext,
    ModelFacts,
    RoutingRequest,
    StrategyTraits,
)

from .lexicon import CODE, LEXICON, MATHS, REASONING, SIMPLE, STEPS, SUBSTRINGS

LENGTH, CLAUSES, FORMAT, TOOLS, TURNS, EFFORT = (
    "length",
    "many clauses",
    "strict format",
    "tools",
    "long conversation",
    "reasoning asked for",
)
WEIGHTS = {
    LENGTH: 0.45,
    CLAUSES: 0.20,
    REASONING: 0.40,
    MATHS: 0.15,
    CODE: 0.15,
    STEPS: 0.15,
    EFFORT: 0.30,
    TOOLS: 0.05,
    FORMAT: 0.05,
    TURNS: 0.05,
    SIMPLE: -0.10,
}
"""How much each sign adds to the difficulty; a second word of a kind adds half as much again."""

EASIEST = 0.05
"""Nothing is so easy that a better model would not be a little surer of it."""
SHORTEST, LONGEST = 32, 4096
"""Characters at which the length says nothing, and all it can; logarithmic between."""
MOST_CLAUSES = 10
"""Commas at which the number of clauses has said all it can."""
MANY_TURNS = 4
WINDOW = 256
"""Characters at each end of the text whose words are looked at: instructions stand there."""
UNPRICED_QUALITY = 0.55
"""Prior for a free or unpriced model, mostly local ones: between the cheapest priced ones and the middle."""

_PUNCTUATION = ".,:;?!()"
_KNOWN = frozenset(LEXICON)
_LEXICAL_KINDS = (REASONING, MATHS, CODE, STEPS, SIMPLE)
_SPAN = log2(LONGEST / SHORTEST)


class ComplexityStrategy(RoutingStrategy):
    """Predicts each model's quality from the request's difficulty and the model's price or known quality."""

    name: ClassVar[str] = "complexity"
    traits: ClassVar[StrategyTraits] = StrategyTraits(scores="quality")

    def __init__(self, options: object = None) -> None:
        super().__init__(options)
        self._qualities: dict[str, float] = {}
        self._last: tuple[RoutingRequest | None, float, tuple[str, ...]] = (None, 0.0, ())

    def load(self, context: LoadContext) -> None:
        """Work out every deployment's quality once."""
        self._qualities = {
            d.id: quality(d.facts) for d in context.deployments if "*" not in d.model
        }

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Predicted quality of each candidate's answer."""
        difficulty, _ = self._seen(request)
        steps = 4.0 * difficulty * difficulty
        known = self._qualities
        scores = []
        for candidate in candidates:
            deployment = candidate.deployment
            base = known.get(deployment.id)
            scores.append((quality(deployment.facts) if base is None else base) ** steps)
        return scores

    def explain(self, request: RoutingRequest) -> str:
        """The difficulty and the signs it was read from."""
        difficulty, signs = self._seen(request)
        return f"difficulty {difficulty:.2f} ({', '.join(signs) or 'short and plain'})"

    def _seen(self, request: RoutingRequest) -> tuple[float, tuple[str, ...]]:
        last, difficulty, signs = self._last
        if last is not request:  # `explain` follows `score` on the same request
            difficulty, signs = assess(request)
            self._last = (request, difficulty, signs)
        return difficulty, signs


def assess(request: RoutingRequest) -> tuple[float, tuple[str, ...]]:
    """A request's difficulty in [0, 1] and the names of the signs that were seen."""
    text = request.text
    commas = text.count(",")
    total = WEIGHTS[CLAUSES] * min(1.0, commas / MOST_CLAUSES)
    signs = [CLAUSES] if commas >= MOST_CLAUSES else []
    if len(text) > SHORTEST:
        total += WEIGHTS[LENGTH] * min(1.0, log2(len(text) / SHORTEST) / _SPAN)
        if len(text) >= 8 * SHORTEST:
            signs.append(LENGTH)
    counts = _lexical(text)
    if counts:
        for kind in _LEXICAL_KINDS:
            if kind in counts:
                total += WEIGHTS[kind] * (1.5 if counts[kind] > 1 and kind is not SIMPLE else 1.0)
                signs.append(kind)
    if request.turns >= MANY_TURNS:
        total += WEIGHTS[TURNS]
        signs.append(TURNS)
    if request.needs:
        asked = [sign for sign, need in _NEED_SIGNS if need in request.needs]
        total += sum(WEIGHTS[sign] for sign in asked)
        signs += asked
    return min(1.0, max(EASIEST, total)), tuple(signs)


_NEED_SIGNS = (
    (EFFORT, Capability.REASONING),
    (TOOLS, Capability.TOOLS),
    (FORMAT, Capability.JSON_SCHEMA),
)


def _lexical(text: str) -> dict[str, int]:
    """Kinds of words and signs in the text, with how many different ones of each."""
    counts: dict[str, int] = {}
    if len(text) > 2 * WINDOW:
        text = f"{text[:WINDOW]} {text[-WINDOW:]}"
    lower = text.lower()
    words = lower
    for mark in _PUNCTUATION:  # several times as fast as a regular expression, in any script
        words = words.replace(mark, " ")
    for word in _KNOWN.intersection(words.split()):
        kind = LEXICON[word]
        counts[kind] = counts.get(kind, 0) + 1
    for kind, signs in SUBSTRINGS[text.isascii()]:
        for sign in signs:
            if sign in lower:
                counts[kind] = counts.get(kind, 0) + 1
    return counts


def quality(facts: ModelFacts) -> float:
    """The declared or looked-up quality, else a prior from the list price, in (0, 1).

    The prior is linear in the logarithm of the price: 0.70 at 1 USD per million tokens (three parts input,
    one part output) and 0.175 more for each factor of ten, between 0.30 and 0.97.
    """
    if facts.quality is not None:
        return min(0.999, max(0.001, facts.quality))
    if facts.input_usd_per_token is None or facts.output_usd_per_token is None:
        return UNPRICED_QUALITY
    blended = (3.0 * facts.input_usd_per_token + facts.output_usd_per_token) / 4.0 * 1e6
    if blended <= 0.0:
        return UNPRICED_QUALITY
    return min(0.97, max(0.30, 0.70 + 0.175 * log10(blended)))
