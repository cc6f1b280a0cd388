"""SQL written for both dialects, as psycopg wants it: `:name` becomes `%(name)s`, a literal `%` is doubled."""

from __future__ import annotations

import re
from functools import lru_cache

TOKEN = re.compile(
    r"""
    '(?:[^']|'')*'                  # a string
  | "(?:[^"]|"")*"                  # a quoted name
  | --[^\n]*                        # comments
  | /\*.*?\*/
  | \$(?P<tag>[A-Za-z_]*)\$.*?\$(?P=tag)\$
  | ::                              # a cast
  | :(?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | %
    """,
    re.VERBOSE | re.DOTALL,
)


@lru_cache(maxsize=1024)
def for_psycopg(sql: str) -> bytes:
    """One statement, converted once; always run it with parameters, be it `{}`."""
    return TOKEN.sub(_replaced, sql).encode()


def _replaced(token: re.Match[str]) -> str:
    if token["name"] is not None:
        return f"%({token['name']})s"
    return token[0].replace("%", "%%")
