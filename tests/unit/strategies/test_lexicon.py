from __future__ import annotations

from routeiq.strategies.lexicon import LEXICON, MARKS, SCRIPTS
from routeiq.strategies.prior import FULL, WEIGHTS


def test_words_can_match() -> None:
    assert all(word == word.lower() and not set(word) & set(".,:;?!()|'\" ") for word in LEXICON)


def test_every_kind_has_a_weight_and_a_count() -> None:
    kinds = {*LEXICON.values(), *(kind for _, kind in MARKS)}
    kinds |= {kind for _, stems in SCRIPTS for _, kind in stems}
    assert kinds == set(FULL)
    assert kinds < set(WEIGHTS)


def test_stems_are_in_lower_case_and_found_by_their_script() -> None:
    for script, stems in SCRIPTS:
        assert stems
        for stem, _ in stems:
            assert stem == stem.lower()
            assert script.search(stem)
