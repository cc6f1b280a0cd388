"""What can be read off a request without understanding it: twenty numbers between 0 and about 1.

Counting is done on the UTF-8 bytes with `bytes.translate` and `str.count`, which run at memory speed, so a
200-token prompt takes some tens of microseconds. In scripts without spaces a word is taken to have two
characters. Scales are logarithmic where a quantity has no natural end, else shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log1p

from routeiq.types import Capability, RoutingRequest

NAMES = (
    "characters",
    "words",
    "word length",
    "lines",
    "commas",
    "digits",
    "capitals",
    "not Latin",
    "other script",
    "question marks",
    "maths",
    "code",
    "open question",
    "reasoning",
    "multiple choice",
    "format asked for",
    "turns",
    "system prompt",
    "tools",
    "media",
)
DIMENSION = len(NAMES)

_DIGITS = b"0123456789"
_CAPITALS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_OPERATORS = b"=+*/^<>\\"
_BRACKETS = b"{};_`#"
_ASCII = bytes(range(128))
_CONTINUATION = bytes(range(0x80, 0xC0))
_LATIN_LEADS = bytes([0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xE1, 0xE2])
"""First bytes of Latin letters with accents, typographic quotes, dashes and mathematical signs."""
_DENSE_LEADS = bytes([*range(0xE3, 0xEE), 0xE0, 0xF0])
"""First bytes of Chinese, Japanese, Korean, Thai and Indic characters: a word in two or three of them."""
_MATHS_SIGNS = ("\\frac", "\\sqrt", "$", "\u2212", "\u221a", "\u222b", "\u2211", "\u2264", "\u00d7")
_CODE_SIGNS = ("```", "def ", "return ", "import ", "</", "SELECT ", "#include")
_CHOICES = ("\nB.", "\nC.", "\nD.", "\nE.", "\nB)", "\nC)", "(B)", "(C)")
"""Labels of answers to choose from; that of the first one, A, is a common word and abbreviation."""
_OPEN_QUESTION = """
    why how explain describe discuss write essay story design suggest
    warum wie erklare schreibe pourquoi comment explique ecris porque como explica escribe
    perche come spiega scrivi почему как объясни напиши waarom hoe dlaczego jak mengapa
"""
_REASONING = """
    prove derive calculate compute find solve evaluate determine show compare analyze analyse justify
    optimize assume suppose probability equation integral theorem
    beweise berechne lose bestimme demontre calcule resous demuestra calcula resuelve
    dimostra risolvi докажи вычисли реши наиди bereken oblicz hitung
"""
_FORMAT = """
    json list table bullet bullets markdown csv yaml xml format steps sentences words schema
    liste tabelle tableau lista tabla tabella список таблица
"""
_KINDS: tuple[tuple[frozenset[bytes], tuple[str, ...]], ...] = tuple(
    (frozenset(words.encode().split()), tuple(signs.split()))
    for words, signs in (
        (
            _OPEN_QUESTION,
            "为什么 为何 如何 怎么 解释 写一 なぜ どう 説明 왜 어떻게 설명 لماذا كيف क्यों कैसे ทำไม",
        ),
        (_REASONING, "证明 證明 計算 计算 求 解方程 証明 분석 계산 증명 احسب أثبت गणना คำนวณ"),
        (_FORMAT, "列表 列出 表格 步骤 箇条書き 表で 목록 표로 قائمة सूची รายการ"),
    )
)
"""Words as the tokenizer leaves them (small, without accents), and signs of scripts without spaces."""
_MEDIA = frozenset(
    (Capability.VISION, Capability.AUDIO_INPUT, Capability.AUDIO_OUTPUT, Capability.PDF)
)
_TOOLS = frozenset((Capability.TOOLS, Capability.PARALLEL_TOOLS))
_JSON = frozenset((Capability.JSON_OBJECT, Capability.JSON_SCHEMA))


def lexical(text: str, words: Sequence[bytes], request: RoutingRequest) -> list[float]:
    """The features of `NAMES`, in that order.

    Args:
        text: the question.
        words: its words as `WordPiece.split` leaves them.
        request: where the text is from.
    """
    data = text.encode("utf-8", "surrogatepass")
    letters, lines, spaces = max(1, len(text)), text.count("\n"), text.count(" ")
    other, latin, dense = _scripts(text, data)
    count = 1 + spaces + lines + dense // 2
    open_question, reasoning, form = _kinds(text, words, other)
    needs = request.needs
    return [
        min(1.2, log1p(len(text)) / 9),
        min(1.2, log1p(count) / 7),
        (letters - spaces - lines) / count / 10 if letters < 10 * count else 1.0,
        min(1.0, log1p(lines) / 4),
        min(1.0, 5 * text.count(",") / count),
        min(1.0, 5 * _count(data, _DIGITS) / letters),
        min(1.0, 5 * _count(data, _CAPITALS) / letters),
        other / letters,
        (other - latin) / letters,
        min(1.0, (text.count("?") + text.count("\uff1f") + text.count("\u061f")) / 3),
        _signs(text, _count(data, _OPERATORS), _MATHS_SIGNS),
        _signs(text, _count(data, _BRACKETS) // 2, _CODE_SIGNS),
        open_question,
        reasoning,
        _choices(text),
        max(form, 1.0 if needs & _JSON else 0.0),
        min(1.0, log1p(request.turns - 1) / 3) if request.turns > 1 else 0.0,
        min(1.0, log1p(len(request.system)) / 9),
        1.0 if needs & _TOOLS else 0.0,
        1.0 if needs & _MEDIA else 0.0,
    ]


def _count(data: bytes, counted: bytes) -> int:
    """How many bytes of `data` are among those counted."""
    return len(data) - len(data.translate(None, counted))


def _scripts(text: str, data: bytes) -> tuple[int, int, int]:
    """How many characters are beyond ASCII, how many of them Latin or signs, how many dense."""
    if text.isascii():
        return 0, 0, 0
    leads = data.translate(None, _ASCII).translate(None, _CONTINUATION)
    return len(leads), _count(leads, _LATIN_LEADS), _count(leads, _DENSE_LEADS)


def _signs(text: str, weak: int, strong: tuple[str, ...]) -> float:
    """Weak signs, and strong ones counted as three, on a logarithmic scale that ends at 54."""
    seen = 0
    for sign in strong:
        if sign in text:
            seen += 3
    return min(1.0, log1p(weak + seen) / 4)


def _choices(text: str) -> float:
    if "\nB" not in text and "(B)" not in text:
        return 0.0
    return min(1.0, sum([sign in text for sign in _CHOICES]) / 4)


def _kinds(text: str, words: Sequence[bytes], other: int) -> list[float]:
    """For each kind of word, 0 for none, 0.6 for one, 1 for several different ones."""
    seen = set(words)
    found = []
    for known, signs in _KINDS:
        count = len(known & seen)
        if other:
            count += sum([sign in text for sign in signs])
        found.append(0.0 if not count else 0.6 if count == 1 else 1.0)
    return found
