from __future__ import annotations

from collections import Counter

import pytest

from routeiq.routing.tokens import text_tokens
from routeiq.simulator.sample import CHAT, cost_usd, prompts, rows


def test_prompts_differ_and_repeat_with_their_seed() -> None:
    first = list(prompts(500, 1))
    assert len(set(first)) == 500
    assert first == list(prompts(500, 1))
    assert first[:100] == list(prompts(100, 1))
    assert not set(first) & set(prompts(500, 2))
    assert list(prompts(0, 1)) == []


def test_rows_say_what_each_chat_model_would_make_of_the_prompt() -> None:
    texts = list(prompts(50, 1))
    for index, (row, text) in enumerate(zip(rows(texts), texts, strict=True)):
        assert (row["id"], row["route_text"], row["task"]) == (str(index), text, "simulated")
        assert set(row["scores"]) == set(row["costs"]) == {model.name for model in CHAT}
        for model in CHAT:
            assert row["scores"][model.name] == float(model.is_right(text))


def test_rows_may_be_about_some_models_only() -> None:
    (row,) = rows(["Tell me about tea"], CHAT[:1])
    assert set(row["scores"]) == {CHAT[0].name}


def test_models_that_embed_do_not_answer() -> None:
    assert all(model.embedding_dimensions is None for model in CHAT)
    assert len(CHAT) >= 3


def test_an_answer_costs_its_tokens() -> None:
    (model, text) = CHAT[-1], "Explain and compare the history of tea"
    tokens = model.output_tokens + model.reasoning_tokens
    assert cost_usd(model, text) == pytest.approx(model.cost_usd(text_tokens(text), tokens))
    assert cost_usd(model, text * 50) > cost_usd(model, text) > 0.0


def test_there_is_something_to_learn() -> None:
    """Dearer models are right more often, and none is right always."""
    found = list(rows(list(prompts(600, 3))))
    right = Counter({m.name: sum(row["scores"][m.name] for row in found) for m in CHAT})
    cheapest = min(CHAT, key=lambda model: cost_usd(model, "x"))
    assert right[cheapest.name] < 0.85 * max(right.values())
    assert max(right.values()) < len(found)
