"""A token estimate that needs no tokenizer, costs microseconds at any length, and errs high.

The rule: a quarter token for each ASCII character, a third for each UTF-8 byte of the others. That is
0.25 a character for English (tokenizers need 0.20 to 0.25), 0.67 for Cyrillic, Greek, Arabic or Hebrew,
1 for Chinese, Japanese, Korean, Thai or Hindi, 1.3 for emoji: above what current tokenizers need for
prose. Code and digits can need more than the rule says. Texts beyond `SAMPLE` characters are measured in
three places and scaled.
"""

from __future__ import annotations

from routeiq.types import Capability

SAMPLE = 1024
MESSAGE_TOKENS = 4
"""Role and separators around each message."""
TOOL_TOKENS = 120
"""One tool's name, description and schema, typically; walking the schema would cost more than it tells."""
PART_TOKENS = {
    Capability.VISION: 1000,
    Capability.AUDIO_INPUT: 1000,
    Capability.PDF: 3000,
}
"""A high-detail image of about a megapixel; 100 seconds of speech; a few pages with their images."""


def text_tokens(text: str) -> int:
    """Estimated tokens of `text`; rounded up."""
    if text.isascii():
        return (len(text) + 3) // 4
    if len(text) <= 3 * SAMPLE:
        return _counted(text)
    middle = len(text) // 2
    sample = text[:SAMPLE] + text[middle : middle + SAMPLE] + text[-SAMPLE:]
    return _counted(sample) * len(text) // len(sample) + 1


def _counted(text: str) -> int:
    ascii_characters = len(text.encode("ascii", "ignore"))
    other_bytes = len(text.encode("utf-8", "surrogatepass")) - ascii_characters
    return (3 * ascii_characters + 4 * other_bytes + 11) // 12
