"""Which language a prompt is written in, roughly: by its script, and in Latin script by its commonest words."""

from __future__ import annotations

import unicodedata
from collections import Counter

LOOKED_AT = 400
"""Characters of a prompt that are looked at."""
_SCRIPTS = {
    "CJK": "Chinese",
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "HANGUL": "Korean",
    "CYRILLIC": "Cyrillic",
    "ARABIC": "Arabic",
    "HEBREW": "Hebrew",
    "DEVANAGARI": "Devanagari",
    "THAI": "Thai",
    "GREEK": "Greek",
}
_WORDS = {
    "English": "the of and to in is a for that with are what how on as by which",
    "German": "der die das und ist ein eine nicht mit von zu den wie was auf für",  # codespell:ignore ist
    "French": "le la les des et est une un que dans pour pas qui sur avec du quel",
    "Spanish": "el los las y es una un que en por para con del como cuál se qué",
    "Italian": "il lo gli e è una un che di per con della come non quale sono",
    "Portuguese": "o os as e é uma um que em para com não do da como qual se",
    "Dutch": "de het een en is van niet met voor op wat hoe zijn dat te",  # codespell:ignore te
}
OTHER = "other"


def _by_word() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for language, words in _WORDS.items():
        for word in words.split():
            found[word] = (*found.get(word, ()), language)
    return found


_LANGUAGES = _by_word()


def language(text: str) -> str:
    """The language's name, a script's where only that is known, or "other" (numbers, code, names alone)."""
    sample = text[:LOOKED_AT]
    if not sample.isascii():
        scripts = Counter(_script(character) for character in sample if character.isalpha())
        scripts.pop("", None)
        # Japanese mixes in Chinese characters; a few foreign letters do not make a foreign text.
        if scripts["Japanese"]:
            return "Japanese"
        if scripts and 4 * scripts.total() >= sum(map(str.isalpha, sample)):
            return scripts.most_common(1)[0][0]
    votes = Counter(
        name for word in sample.lower().split() for name in _LANGUAGES.get(word.strip("¿?.,:;"), ())
    )
    return votes.most_common(1)[0][0] if votes else OTHER


def _script(character: str) -> str:
    if character.isascii():
        return ""
    return _SCRIPTS.get(unicodedata.name(character, "").partition(" ")[0], "")
