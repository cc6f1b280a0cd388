"""BERT's uncased word-piece tokenizer, for a mapped vocabulary and a warm word cache.

The ids are those of Hugging Face `tokenizers` with all-MiniLM-L6-v2's settings (`BertNormalizer` with clean
text, Chinese characters apart, accents stripped and lower case; `BertPreTokenizer`; greedy longest match,
[UNK] for words beyond 100 characters), without [CLS] and [SEP] around them, and with one difference: a
special token that a user writes out ("[SEP]") is text like any other. (Characters that Unicode got after
version 8 have the properties that Python knows, which those `tokenizers` were built without.)

A dictionary of 30,522 words would cost each worker some 4 MB of its own. Instead the words stand one after
another in one mapped file, with a mapped hash table of their numbers (open addressing, linear probing), and
only the words that were seen lately are in a dictionary, with their ids ready to be joined.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from unicodedata import category, normalize
from zlib import crc32

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.uint16]

UNKNOWN = 100
"""The id of [UNK] in BERT's vocabularies."""
LONGEST_WORD = 100
"""Characters; a longer word is [UNK], as in BERT."""
CACHED_WORDS = 12_288
"""About 1.4 MB. First in, first out: a hit costs nothing, and misses are fewer than with two generations."""
CACHED_WORD_LENGTH = 32
"""Longer words are worked out every time: they seldom come again."""
CACHED_CHARACTERS = 4096
"""Characters beyond ASCII whose normal form is remembered."""
FEW_CHARACTERS = 12
"""So many different ones beyond ASCII are replaced one by one: faster than looking at each character."""
PREFIX = 3
"""Characters by which `Vocabulary.reach` is addressed."""

_CONTINUED = crc32(b"##")
"""A CRC-32 goes on from here as if "##" had been read before."""
_PUNCTUATION = b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_REMOVED = bytes([*range(9), 11, 12, *range(14, 32), 127])
"""Control characters; tab, line feed and carriage return stay white space."""
_SMALL = bytes(range(256)).lower()
_NO_MARK = bytes(set(range(256)) - set(_PUNCTUATION))
_MARKS = {mark: bytes([mark]) for mark in _PUNCTUATION}
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_CHINESE = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The words of a vocabulary as four arrays, which may be mapped files.

    `words` (bytes) are the UTF-8 words in the order of their ids; `offsets` (V + 1) where each begins; `slots`
    (a power of two) the id + 1 of the word whose CRC-32 leads there, 0 where none does; `reach` (a power of
    two) the characters of the longest word that begins with the three whose CRC-32 leads there.
    """

    words: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.uint32]
    slots: npt.NDArray[np.uint16]
    reach: npt.NDArray[np.uint8]

    @classmethod
    def build(cls, words: list[str]) -> Vocabulary:
        """The arrays for these words; a word's id is its place.

        Raises:
            ValueError: more words than 16 bits can number.
        """
        if len(words) >= 1 << 16:
            raise ValueError(f"{len(words)} words: ids are 16 bits, so at most {(1 << 16) - 1}.")
        encoded = [word.encode() for word in words]
        size = 1 << (2 * len(words)).bit_length()
        slots = np.zeros(size, np.uint16)
        reach = np.zeros(size >> 2 or 1, np.uint8)
        for number, (word, key) in enumerate(zip(words, encoded, strict=True), 1):
            place = crc32(key) & (size - 1)
            while slots[place]:
                place = (place + 1) & (size - 1)
            slots[place] = number
            bare = word.removeprefix("##")
            start = word[: len(word) - len(bare) + PREFIX].encode()
            at = crc32(start) & (len(reach) - 1)
            reach[at] = max(int(reach[at]), min(255, len(bare)))
        offsets = np.cumsum([0, *map(len, encoded)]).astype(np.uint32)
        return cls(
            words=np.frombuffer(b"".join(encoded), np.uint8),
            offsets=offsets,
            slots=slots,
            reach=reach,
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[str]:
        """The words in the order of their ids."""
        for start, end in zip(self.offsets[:-1], self.offsets[1:], strict=True):
            yield bytes(self.words[start:end]).decode()


class WordPiece:
    """Text to ids, with a cache of words. One per worker is enough."""

    __slots__ = ("_characters", "_words")

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._words = _Words(_matcher(vocabulary))
        self._characters = _Characters()

    def encode(self, text: str) -> Ids:
        """The ids of a text's pieces, in order; read-only. Linear in the length of the text."""
        return self.ids(self.split(text))

    def ids(self, words: Iterable[bytes]) -> Ids:
        """The ids of the pieces of words that `split` made."""
        return np.frombuffer(b"".join(map(self._words.__getitem__, words)), np.uint16)

    def split(self, text: str) -> list[bytes]:
        """The normalised words of a text in UTF-8: what `BertPreTokenizer` would hand to the word-piece model."""
        if not text.isascii():
            text = self._folded(text)
        data = text.encode().translate(_SMALL, _REMOVED)
        for mark in set(data.translate(None, _NO_MARK)):
            data = data.replace(_MARKS[mark], b" %c " % mark)
        return data.split()

    def _folded(self, text: str) -> str:
        """The text with every character beyond ASCII replaced by its normal form."""
        fold = self._characters
        different = set(_NOT_ASCII.findall(text))
        if len(different) > FEW_CHARACTERS:
            return text.translate(fold)
        for character in different:
            text = text.replace(character, fold[ord(character)])
        return text


class _Words(dict[bytes, bytes]):
    """The ids of the words seen lately, as bytes. Nothing is done on a hit; the oldest eighth goes when full."""

    __slots__ = ("_match",)

    def __init__(self, match: Callable[[bytes], bytes]) -> None:
        self._match = match

    def __missing__(self, word: bytes) -> bytes:
        ids = self._match(word)
        if len(word) <= CACHED_WORD_LENGTH:
            if len(self) >= CACHED_WORDS:
                for old in list(islice(self, CACHED_WORDS // 8 or 1)):
                    self.pop(old, None)
            self[word] = ids
        return ids


class _Characters(dict[int, str]):
    """The normal form of characters beyond ASCII, by code point."""

    __slots__ = ()

    def __missing__(self, code: int) -> str:
        if code < 128:
            return chr(code)
        if len(self) >= CACHED_CHARACTERS:
            self.clear()
        form = self[code] = _normal_form(chr(code))
        return form


def _normal_form(character: str) -> str:
    kind = category(character)
    if kind in ("Cc", "Cf", "Co", "Cs") or character == "\ufffd":
        return ""
    if character.isspace():
        return " "
    code = ord(character)
    bare = "".join(c for c in normalize("NFD", character) if category(c) != "Mn").lower()
    if kind[0] == "P" or any(low <= code <= high for low, high in _CHINESE):
        return f" {bare} "
    return bare


def _matcher(vocabulary: Vocabulary) -> Callable[[bytes], bytes]:
    """A function from a word to the ids of its pieces, as the bytes of 16-bit integers."""
    find, reach = _finder(vocabulary), vocabulary.reach.data
    mask = len(reach) - 1
    unknown = UNKNOWN.to_bytes(2, "little")

    def match(word: bytes) -> bytes:
        whole = find(word, 0)
        if whole is not None:
            return whole.to_bytes(2, "little")
        if word.isascii():
            ends: Sequence[int] = range(len(word) + 1)
        else:  # where each character ends, in bytes
            ends = (0, *accumulate(len(character.encode()) for character in word.decode()))
        if len(ends) > LONGEST_WORD + 1:
            return unknown
        ids, start, seed, last = b"", 0, 0, len(ends) - 1
        while start < last:
            begin = ends[start]
            prefix = crc32(word[begin : ends[min(last, start + PREFIX)]], seed)
            end = min(last, start + max(PREFIX - 1, reach[prefix & mask]))
            while (found := find(word[begin : ends[end]], seed)) is None:
                end -= 1
                if end == start:
                    return unknown
            ids += found.to_bytes(2, "little")
            start, seed = end, _CONTINUED
        return ids

    return match


def _finder(vocabulary: Vocabulary) -> Callable[[bytes, int], int | None]:
    """A function from a piece and the seed of its hash to its id; the seed says whether "##" goes before it.

    Memory views are several times as fast as arrays for single items. The lengths are compared first.
    """
    words, offsets, slots = vocabulary.words.data, vocabulary.offsets.data, vocabulary.slots.data
    mask = len(slots) - 1

    def find(piece: bytes, seed: int) -> int | None:
        place = crc32(piece, seed) & mask
        size = len(piece) + 2 if seed else len(piece)
        while number := slots[place]:
            start, end = offsets[number - 1], offsets[number]
            if end - start == size and words[start:end] == (b"##" + piece if seed else piece):
                return number - 1
            place = (place + 1) & mask
        return None

    return find
