from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from routeiq.embeddings import wordpiece
from routeiq.embeddings.static import open_table
from routeiq.embeddings.wordpiece import UNKNOWN, Vocabulary, WordPiece

CASES = json.loads((Path(__file__).parents[2] / "data" / "wordpiece.json").read_text("utf-8"))
WORDS = ["[PAD]", "un", "##able", "##a", "##b", "able", "a", "ab", "abcd", "##cde", "中", "!"]
SMALL = Vocabulary.build(WORDS + [f"w{i}" for i in range(UNKNOWN - len(WORDS))] + ["[UNK]"])


@pytest.fixture(scope="module")
def shipped() -> WordPiece:
    return open_table().tokenizer()


@pytest.mark.parametrize("case", CASES, ids=lambda case: ascii(case["text"][:24]))
def test_ids_are_those_of_hugging_face_tokenizers(
    shipped: WordPiece, case: dict[str, object]
) -> None:
    assert shipped.encode(str(case["text"])).tolist() == case["ids"]


def test_joined_texts_give_joined_ids(shipped: WordPiece) -> None:
    text = "\n".join(case["text"] for case in CASES)
    assert shipped.encode(text).tolist() == [number for case in CASES for number in case["ids"]]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("unable", ["un", "##able"]),
        ("able", ["able"]),
        ("ABAB", ["ab", "##a", "##b"]),
        ("aba", ["ab", "##a"]),
        ("abcde", ["[UNK]"]),  # greedy: "abcd" is taken, and "##e" is not a word
        ("a中a!", ["a", "中", "a", "!"]),
        ("zebra", ["[UNK]"]),
    ],
)
def test_the_longest_piece_is_taken_first(text: str, pieces: list[str]) -> None:
    words = list(SMALL)
    found = [words[number] for number in WordPiece(SMALL).encode(text)]
    assert found == pieces


def test_every_word_of_the_shipped_vocabulary_is_found_again() -> None:
    vocabulary = open_table().vocabulary
    words = list(vocabulary)
    assert len(words) == len(vocabulary) == 30_522
    assert words[UNKNOWN] == "[UNK]"
    find = wordpiece._finder(vocabulary)
    assert [find(word.encode(), 0) for word in words] == list(range(len(words)))
    assert find(b"not-a-word", 0) is None


def test_the_shipped_hash_table_is_the_one_that_would_be_built() -> None:
    shipped = open_table().vocabulary
    built = Vocabulary.build(list(shipped))
    for name in ("words", "offsets", "slots", "reach"):
        np.testing.assert_array_equal(getattr(built, name), getattr(shipped, name))


def test_a_vocabulary_that_16_bits_cannot_number_is_refused() -> None:
    with pytest.raises(ValueError, match="65536 words"):
        Vocabulary.build([str(i) for i in range(1 << 16)])


def test_ids_do_not_depend_on_what_the_cache_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = open_table().vocabulary
    monkeypatch.setattr(wordpiece, "CACHED_WORDS", 8)
    monkeypatch.setattr(wordpiece, "CACHED_CHARACTERS", 8)
    small = WordPiece(vocabulary)
    texts = [case["text"] for case in CASES]
    first = [small.encode(text).tolist() for text in texts]
    assert [small.encode(text).tolist() for text in reversed(texts)] == first[::-1]
    assert first == [case["ids"] for case in CASES]


def test_the_caches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wordpiece, "CACHED_WORDS", 50)
    monkeypatch.setattr(wordpiece, "CACHED_CHARACTERS", 40)
    tokens = WordPiece(SMALL)
    tokens.encode(" ".join(f"word{i}" for i in range(1000)))
    tokens.encode("".join(map(chr, range(0x400, 0x600))))
    assert len(tokens._words) <= 50
    assert len(tokens._characters) <= 40


def test_long_words_are_not_remembered() -> None:
    tokens = WordPiece(SMALL)
    tokens.encode("a" * 60)
    assert not tokens._words


@pytest.mark.parametrize(
    "text",
    [
        "a" * 4_000_000,
        "中" * 100_000,
        "\x00" * 4_000_000,
        "\u0301" * 200_000,
        "\U0001f600" * 100_000,
        "!" * 200_000,
        " " * 4_000_000,
    ],
    ids=["one word", "Chinese", "control", "accents", "emoji", "punctuation", "spaces"],
)
@pytest.mark.timeout(10)
def test_hostile_texts_of_megabytes_are_linear(shipped: WordPiece, text: str) -> None:
    assert len(shipped.encode(text)) <= len(text)


def test_words_of_random_letters_need_few_look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reach of a prefix bounds the search: without it there would be some 20 for each character."""
    vocabulary = open_table().vocabulary
    find, calls = wordpiece._finder(vocabulary), [0]

    def counting(piece: bytes, seed: int) -> int | None:
        calls[0] += 1
        return find(piece, seed)

    monkeypatch.setattr(wordpiece, "_finder", lambda _: counting)
    tokens, chance = WordPiece(vocabulary), random.Random(0)
    text = " ".join("".join(chance.choices("qxzjkvwpybgd", k=100)) for _ in range(20))
    assert len(tokens.encode(text)) > 500
    assert calls[0] < 5 * len(text)


def test_lone_surrogates_are_dropped(shipped: WordPiece) -> None:
    assert shipped.encode("a\ud800b").tolist() == shipped.encode("ab").tolist()
