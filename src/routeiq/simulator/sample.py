"""Training data of the simulated models: prompts of every domain and difficulty, and what each would make of them.

For trying out training, evaluation and serving without a provider: the models' real quality is known here.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from routeiq.routing.tokens import text_tokens
from routeiq.types import JsonObject

from .models import CATALOGUE, SimulatedModel

CHAT = tuple(model for model in CATALOGUE if model.embedding_dimensions is None)
_SUBJECTS = {
    "code": ("the python function", "this sql query", "a rust api", "the regex in my code"),
    "math": (
        "the probability of two sixes",
        "this integral",
        "an equation in x",
        "the sum of cubes",
    ),
    "writing": ("a poem about", "an email on", "a short story of", "an essay on"),
    "general": ("the capital of", "the history of", "the weather in", "the people of"),
}
_VERBS = {
    "easy": ("Tell me about", "Show me", "Give me"),
    "medium": ("Explain and compare", "Why is it so:", "Analyze and debug", "Design and implement"),
    "hard": (
        "Prove and derive formally",
        "Give a rigorous account of",
        "Optimize, distributed,",
    ),
}
_THINGS = [
    "France",
    "rivers",
    "kings",
    "trees",
    "ships",
    "stars",
    "bridges",
    "clocks",
    "wolves",
    "tea",
]


def prompts(count: int, seed: int) -> Iterator[str]:
    """Different prompts, all domains and difficulties alike often; the same for the same seed."""
    rng = random.Random(seed)
    seen: set[str] = set()
    while len(seen) < count:
        verb = rng.choice(_VERBS[rng.choice(list(_VERBS))])
        subject = rng.choice(_SUBJECTS[rng.choice(list(_SUBJECTS))])
        things = f"{rng.choice(_THINGS)} and {rng.choice(_THINGS)}"
        text = f"{verb} {subject} {things}, number {rng.randrange(10**6)}"
        if text not in seen:
            seen.add(text)
            yield text


def cost_usd(model: SimulatedModel, text: str) -> float:
    """What one answer costs, about as the simulator counts."""
    return model.cost_usd(text_tokens(text), model.output_tokens + model.reasoning_tokens)


def rows(texts: Sequence[str], models: Sequence[SimulatedModel] = CHAT) -> Iterator[JsonObject]:
    """A row of RouteIQ's plain training format per prompt."""
    for index, text in enumerate(texts):
        yield {
            "id": str(index),
            "task": "simulated",
            "route_text": text,
            "scores": {model.name: float(model.is_right(text)) for model in models},
            "costs": {model.name: cost_usd(model, text) for model in models},
        }
