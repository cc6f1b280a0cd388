from __future__ import annotations

import pytest

from routeiq.state.statements import for_psycopg


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT :a, :b_2", "SELECT %(a)s, %(b_2)s"),
        ("SELECT :a::bigint, CAST(:a AS TEXT)", "SELECT %(a)s::bigint, CAST(%(a)s AS TEXT)"),
        ("SELECT ':a', 'it''s :a', :a", "SELECT ':a', 'it''s :a', %(a)s"),
        ('SELECT ":a" FROM t WHERE x = :x', 'SELECT ":a" FROM t WHERE x = %(x)s'),
        ("SELECT 5 % 2, 'a%' WHERE x LIKE :x", "SELECT 5 %% 2, 'a%%' WHERE x LIKE %(x)s"),
        ("SELECT 1 -- at 10:30 :no\n, :a", "SELECT 1 -- at 10:30 :no\n, %(a)s"),
        ("SELECT /* :no */ :a", "SELECT /* :no */ %(a)s"),
        ("DO $$ BEGIN x := :no; END $$", "DO $$ BEGIN x := :no; END $$"),
        ("SELECT '10:30'::time", "SELECT '10:30'::time"),
    ],
)
def test_names_become_psycopgs(sql: str, expected: str) -> None:
    assert for_psycopg(sql) == expected.encode()
