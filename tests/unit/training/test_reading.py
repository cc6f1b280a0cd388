"""Reading: kinds of files, problems with file and row, bounded lines, and bytes that nobody foresaw."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routeiq.exceptions import RouteIQError
from routeiq.training.errors import DataError
from routeiq.training.formats import rows
from routeiq.training.formats.base import last_question, user_text
from routeiq.training.reading import detect_format, read
from routeiq.training.records import Preference, Record
from routeiq.training.validation import Problems, check

DATA = Path(__file__).parents[2] / "data" / "training"
GOOD = b'{"id": "a", "text": "Why?", "scores": {"m": 1, "n": 0}}\n'


def texts(path: Path | Sequence[Path], **settings: Any) -> list[str]:
    return [item.text for item in read(path, **settings)]


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def error(path: Path | Sequence[Path], **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        texts(path, **settings)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.jsonl", GOOD),
        ("x.ndjson", b"\xef\xbb\xbf" + GOOD + b"\n\n"),
        ("x.jsonl.gz", gzip.compress(GOOD, mtime=0)),
        ("x.json", b"[" + GOOD + b"]"),
        ("x.json", GOOD),
        ("x.json", b"{\n" + GOOD[1:]),
        ("x.json", b'{"records": [' + GOOD + b"]}"),
        ("x.json.gz", gzip.compress(b"[" + GOOD + b"]", mtime=0)),
        ("x.csv", b"text,score:m,score:n\nWhy?,1,0\n"),
        ("x.csv", b"\xef\xbb\xbftext,score:m,score:n\r\nWhy?,1,0\r\n\r\n"),
        ("x.tsv", b"text\tscore:m\tscore:n\nWhy?\t1\t0\n"),
        ("x.csv.gz", gzip.compress(b"text,model,score\nWhy?,m,1\nWhy?,n,0\n", mtime=0)),
    ],
)
def test_kinds_of_files(tmp_path: Path, name: str, data: bytes) -> None:
    (record,) = read(written(tmp_path, name, data))
    assert isinstance(record, Record)
    assert (record.text, record.scores) == ("Why?", {"m": 1.0, "n": 0.0})


def test_several_lines_of_json_under_another_name(tmp_path: Path) -> None:
    path = written(tmp_path, "x.json", GOOD + GOOD.replace(b'"a"', b'"b"'))
    assert texts(path) == ["Why?", "Why?"]


def test_parquet_in_all_plain_forms(tmp_path: Path) -> None:
    forms: list[dict[str, list[Any]]] = [
        {"id": ["a"], "text": ["Why?"], "scores": [{"m": 1.0, "n": 0.0}], "costs": [{"m": 0.5}]},
        {"text": ["Why?"], "score:m": [1.0], "score:n": [0.0], "score:o": [float("nan")]},
        {"text": ["Why?", "Why?"], "model": ["m", "n"], "score": [True, False]},
    ]
    for number, form in enumerate(forms):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table(form), path)
        (record,) = read(path)
        assert isinstance(record, Record)
        assert record.scores == {"m": 1.0, "n": 0.0}


def test_what_was_not_measured_may_be_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, "x.jsonl", b'{"text": "Why?", "scores": {"m": null, "n": 0.5}}\n')
    (record,) = read(path)
    assert isinstance(record, Record)
    assert (record.id, record.scores) == ("x.jsonl:1", {"n": 0.5})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "Why?", "scores": {"m": 1.5}}', "score of 'm' must be from 0 to 1, not 1.5"),
        (b'{"text": "Why?", "scores": {"m": -1}}', "must be from 0 to 1, not -1"),
        (b'{"text": "Why?", "scores": {"m": NaN}}', "NaN and Infinity do not exist"),
        (b'{"text": "Why?", "scores": {"m": "nan"}}', "`scores.m` is NaN"),
        (b'{"text": "Why?", "scores": {"m": "good"}}', "must be a number, not 'good'"),
        (b'{"text": "Why?", "scores": {"m": [1]}}', "not a value of type list"),
        (b'{"text": "Why?", "scores": [1]}', "must be an object of models and numbers"),
        (b'{"text": "Why?", "scores": {}}', "no model has a score"),
        (b'{"text": "Why?", "scores": {"": 1}}', "name must have 1 to"),
        (b'{"text": "  ", "scores": {"m": 1}}', "the text is empty"),
        (b'{"text": 5, "scores": {"m": 1}}', "must be a text or a list of messages"),
        (b'{"text": null, "scores": {"m": 1}}', "there is no `route_text`, `text` or `prompt`"),
        (b'{"id": ["x"], "text": "Why?", "scores": {"m": 1}}', "`id` must be a string"),
        (b'{"id": "a", "text": "Why?", "scores": {"m": 1}}', "'a' was there before"),
        (
            b'{"text": "Why?", "scores": {"m": 1}, "costs": {"m": -1}}',
            "cost of 'm' must be a finite",
        ),
        (b'{"text": "Why?", "scores": {"m": 1}, "costs": {"m": 1e999}}', "number is infinity"),
        (b'{"text": "Why\xff?", "scores": {"m": 1}}', "not UTF-8 (byte 13)"),
        (b'["text"]', "must be a JSON object, not list"),
        (b"{broken", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_a_bad_row_is_named_with_its_file_and_number(
    tmp_path: Path, line: bytes, message: str
) -> None:
    path = written(tmp_path, "x.jsonl", GOOD + b"\n" + line + b"\n")
    found = error(path)
    assert found.startswith(f"{path}:3: ")
    assert message in found


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"text,score:m\nWhy?,1\nWhen?,yes,2\n", "2: 3 cells under 2 columns"),
        (b"text,score:m\nWhy?,1\nWh\xffn?,1\n", "2: not UTF-8"),
        (b"text,score:m\nWhy?,1\nWh\0n?,1\n", "2: not UTF-8"),
        (b"text,score:m\nWhy?,1\nWhen?,nan\n", "2: `score:m` is NaN"),
        (b"text,score:m,score:m\nWhy?,1,1\n", "two columns are called 'score:m'"),
        (b"\xff,score:m\nWhy?,1\n", "no usable header"),
        (b"", "there is no row in it"),
        (b"text,score:m\n", "there is no row in it"),
    ],
)
def test_bad_tables(tmp_path: Path, data: bytes, message: str) -> None:
    assert message in error(written(tmp_path, "x.csv", data))


def test_bad_rows_can_be_collected_and_left_out(tmp_path: Path) -> None:
    lines = b'{"text": "", "scores": {"m": 1}}\n' * 30 + GOOD
    path = written(tmp_path, "x.jsonl", GOOD.replace(b'"a"', b'"b"') + lines)
    problems = Problems()
    assert texts(path, problems=problems) == ["Why?", "Why?"]
    assert len(problems) == 30
    found = error(path)
    assert found.count("\n") == 20
    assert found.endswith("... 30 problems in all; the first 20 are shown.")


def test_reading_stops_where_nothing_fits(tmp_path: Path) -> None:
    path = written(tmp_path, "x.jsonl", GOOD + b"{}\n" * 5000)
    problems = Problems()
    with pytest.raises(DataError, match="1000 problems in all"):
        texts(path, problems=problems)


def test_a_line_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LINE_LIMIT", 2**20)
    long = b'{"text": "' + b"x" * 3 * 2**20 + b'", "scores": {"m": 1}}\n'
    path = written(tmp_path, "x.jsonl", GOOD + long + GOOD.replace(b'"a"', b'"b"'))
    problems = Problems()
    assert texts(path, problems=problems) == ["Why?", "Why?"]
    assert [str(one) for one in problems] == [f"{path}:2: longer than 1 MiB"]


def test_a_document_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "DOCUMENT_LIMIT", 20)
    assert "write it as JSONL" in error(written(tmp_path, "x.json", b"[" + GOOD + b"]"))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("routerbench_0shot.pkl", b"\x80\x04.", "pickles are never loaded"),
        ("query_embeddings.pt", b"PK", "pickles are never loaded"),
        ("x.txt", b"Why?", "must be one of .jsonl"),
        ("x.jsonl.gz", b"not gzip", "damaged gzip"),
        ("x.jsonl.gz", gzip.compress(GOOD, mtime=0)[:-12], "damaged gzip"),
        ("x.parquet", b"PAR1 no", "not a usable Parquet file"),
        ("x.json", b"[1, 2", "not valid JSON"),
        ("x.json", b"5", "must be a list of objects"),
        ("x.jsonl", b'{"a": 1}\n', "no known format has these keys: a."),
        ("x.jsonl", b"", "there is no row in it"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = written(tmp_path, name, data)
    found = error(path)
    assert str(path) in found
    assert message in found


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="no file in this folder can be read"):
        read(tmp_path)
    with pytest.raises(DataError, match="no file was given"):
        read([])
    with pytest.raises(DataError, match="there is no row in it"):
        detect_format(written(tmp_path, "x.jsonl", b"\n"))


def test_ids_are_checked_per_file_and_do_not_depend_on_the_folder(tmp_path: Path) -> None:
    line = b'{"text": "Why?", "scores": {"m": 1}}\n'
    one, two = written(tmp_path, "a/x.jsonl", line), written(tmp_path, "b/x.jsonl", line)
    assert [item.id for item in read([one, two])] == ["a/x.jsonl:1", "b/x.jsonl:1"]
    assert [item.id for item in read(one)] == ["x.jsonl:1"]
    both = [written(tmp_path, "c.jsonl", GOOD), written(tmp_path, "d.jsonl", GOOD)]
    assert [item.id for item in read(both)] == ["a", "a"]


def test_long_rows_of_one_prompt_may_stand_in_several_files(tmp_path: Path) -> None:
    head = b"text,model,score\n"
    one = written(tmp_path, "m.csv", head + b"Why?,m,1\nWhen?,m,0\n")
    two = written(tmp_path, "n.csv", head + b"When?,n,1\nWhy?,n,0.5\n")
    found = [(item.text, item.scores) for item in read([one, two]) if isinstance(item, Record)]
    assert found == [("Why?", {"m": 1.0, "n": 0.5}), ("When?", {"m": 0.0, "n": 1.0})]


def test_problems_of_joined_rows_have_a_place_too(tmp_path: Path) -> None:
    path = written(tmp_path, "x.csv", b"text,model,score\nWhy?,m,1\nWhen?,m,7\n")
    assert error(path) == f"{path}:2: the score of 'm' must be from 0 to 1, not 7.0"


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("Why?", "Why?"),
        ("['Be brief.', 'Why?']", "Why?"),
        ("['broken", "['broken"),
        ("['a' + 1]", "['a' + 1]"),
        ("Q: 1?\nA: 1\n\nQ: 2?\nA:", "Q: 2?\nA:"),
        ("Question: one\nQuestion: two", "Question: one\nQuestion: two"),  # no examples: no answers
        ("Problem: 1\nSolution: x\nProblem: 2", "Problem: 2"),
        (
            "The Q: is no heading. A: nor this. Q: here.",
            "The Q: is no heading. A: nor this. Q: here.",
        ),
    ],
)
def test_the_last_question_is_routed_on(prompt: str, asked: str) -> None:
    assert last_question(prompt) == asked


def test_the_last_turn_of_the_user_is_routed_on() -> None:
    turns: list[Any] = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    assert user_text(turns) == "one"
    assert user_text(["one", "two"]) == "two"


# What anybody may put into a file: all that may happen is a list of records or one of our errors.

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=8,
)
QUICK = settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
SAMPLES = sorted(path for path in DATA.rglob("*.*") if path.is_file())
ROWS = [
    (path, dict(row.values))
    for path in SAMPLES
    if path.name != "llm_candidates.json"
    for row in rows.read_rows(path, Problems())
]


def attempt(path: Path) -> None:
    """Read: every record that comes out is good, and nothing but our own error is raised."""
    found: list[Record | Preference] = []
    with suppress(RouteIQError):
        found.extend(read(path, allow_evaluation_only=True))
    assert [check(item) for item in found] == [[]] * len(found)


@QUICK
@given(
    data=st.binary(max_size=300),
    kind=st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz"]),
)
def test_any_bytes(data: bytes, kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    attempt(written(tmp_path_factory.mktemp("fuzz"), f"x{kind}", data))


@settings(QUICK, max_examples=40)
@given(row=st.sampled_from(ROWS), data=st.data())
def test_any_values_under_the_keys_of_every_format(
    row: tuple[Path, dict[str, Any]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path, values = row
    names = data.draw(st.lists(st.sampled_from(sorted(values)), min_size=1, max_size=3))
    changed = {**values, **{name: data.draw(VALUES) for name in names}}
    try:
        line = orjson.dumps(changed)
    except TypeError:  # a lone surrogate or an integer of more than 64 bits is not JSON
        return
    folder = tmp_path_factory.mktemp("fuzz") / path.relative_to(DATA).parent
    attempt(written(folder, f"{path.stem}.jsonl", line))


@settings(QUICK, max_examples=30)
@given(
    sample=st.sampled_from(SAMPLES),
    place=st.floats(0, 1),
    cut=st.integers(0, 20),
    put=st.binary(max_size=20)
    | st.sampled_from([b'"', b"{", b"[", b",", b"NaN", b"null", b"1e999"]),
)
def test_damaged_files_of_every_format(
    sample: Path, place: float, cut: int, put: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = sample.read_bytes()
    start = int(place * len(data))
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / sample.relative_to(DATA)
    attempt(written(path.parent, path.name, data[:start] + put + data[start + cut :]))


@QUICK
@given(cells=st.lists(st.lists(st.text(max_size=8), min_size=1, max_size=4), max_size=6))
def test_any_table(cells: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    import csv

    out = io.StringIO()
    csv.writer(out).writerows([["text", "score:m", "cost:m", "id"], *cells])
    data = out.getvalue().encode("utf-8", "surrogatepass")
    attempt(written(tmp_path_factory.mktemp("fuzz"), "x.csv", data))
