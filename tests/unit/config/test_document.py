"""YAML with positions: marks, includes, variables, and everything that is not usable."""

from __future__ import annotations

from pathlib import Path

import pytest

from routeiq.config.document import Document, merged_environ, read_document
from routeiq.exceptions import ConfigError, Problem


def read(
    folder: Path, files: dict[str, str | bytes], environ: dict[str, str] | None = None
) -> tuple[Document, list[Problem]]:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    problems: list[Problem] = []
    return read_document(folder / next(iter(files)), environ or {}, problems), problems


def refused(folder: Path, content: str | bytes) -> Problem:
    with pytest.raises(ConfigError) as caught:
        read(folder, {"config.yaml": content})
    (problem,) = caught.value.problems
    return problem


def test_a_long_chain_of_merges_is_refused(tmp_path: Path) -> None:
    chain = "".join(f"a{i}: &a{i} {{<<: *a{i - 1}}}\n" for i in range(1, 2000))
    assert "nested too deeply" in refused(tmp_path, f"a0: &a0 {{x: 1}}\n{chain}").message


def test_deep_nesting_does_not_end_the_process(tmp_path: Path) -> None:
    assert "nested too deeply" in refused(tmp_path, "a: " + "[" * 200_000).message


def test_every_key_and_item_knows_its_line(tmp_path: Path) -> None:
    document, problems = read(tmp_path, {"c.yaml": "a:\n  b:\n    - x\n    - {c: 1}\n"})
    assert problems == []
    assert document.root == {"a": {"b": ["x", {"c": 1}]}}
    assert document.where(("a", "b", 1, "c")) == f"{tmp_path}/c.yaml:4"
    assert document.where(("a", "b", 0)) == f"{tmp_path}/c.yaml:3"
    assert document.where(("a", "not", "there")) == f"{tmp_path}/c.yaml:1"
    assert document.where(("nowhere",)) == ""
    assert document.at(("a", "b", 7)) is None


def test_dates_stay_text_and_keys_stay_as_written(tmp_path: Path) -> None:
    document, _ = read(tmp_path, {"c.yaml": "api_version: 2024-10-21\non: yes\n1: 0x10\n"})
    assert document.root == {"api_version": "2024-10-21", "on": True, "1": 16}


def test_merge_keys_and_aliases_are_followed(tmp_path: Path) -> None:
    text = (
        "base: &b {x: 1, y: 2}\nmore: &m {z: 3, x: 9}\none: {<<: *b, y: 5}\ntwo: {<<: [*b, *m]}\n"
    )
    document, _ = read(tmp_path, {"c.yaml": text})
    assert document.root["one"] == {"x": 1, "y": 5}
    assert document.root["two"] == {"x": 1, "y": 2, "z": 3}


def test_merge_keys_work_inside_environment_variables_and_aliases(tmp_path: Path) -> None:
    text = (
        "base: &b {X: 1, Y: os.environ/NO}\nenvironment_variables: &e {<<: *b, Y: 2}\nagain: *e\n"
    )
    document, problems = read(tmp_path, {"c.yaml": text})
    assert problems == []
    assert document.root["again"] == {"X": 1, "Y": 2}
    assert document.from_environ == {("base", "Y"): "NO"}


def test_an_empty_file_is_an_empty_configuration(tmp_path: Path) -> None:
    assert read(tmp_path, {"c.yaml": "# nothing\n"})[0].root == {}


def test_duplicate_keys_are_all_reported(tmp_path: Path) -> None:
    _, problems = read(tmp_path, {"c.yaml": "a: 1\nb: {c: 1, c: 2}\na: 2\n"})
    assert {(p.key, p.file.rpartition(":")[2]) for p in problems} == {("c", "2"), ("a", "3")}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [", "not usable YAML"),
        ("- a\n", "is not a mapping"),
        ("just text", "is not a mapping"),
        ("a: !!python/name:os.system x", "cannot read a value as"),
        ("a: !mine {x: 1}", "cannot read a value as !mine"),
        ("a: !!int many", "cannot read a value as"),
        ("a: !!bool many", "cannot read a value as"),
        ("? [a, b]\n: 1", "a key is not plain text"),
        ("a: {<<: 7}", "expected a mapping or list of mappings for merging"),
        ("a: &x [*x]", "an alias contains itself"),
        ("a: *nobody", "undefined alias"),
        ("a: " + "[" * 100 + "]" * 100, "nested too deeply"),
        (b"a: \xff", "is not UTF-8"),
        (b"a: \x00", "not"),
        ("a: " + "9" * 5000, "cannot read a value as"),
    ],
)
def test_what_cannot_be_read_is_one_problem_with_its_file(
    tmp_path: Path, content: str | bytes, said: str
) -> None:
    problem = refused(tmp_path, content)
    assert said in problem.message
    assert problem.file.startswith(f"{tmp_path}/config.yaml")


def test_aliases_cannot_explode(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "unfold to too much" in refused(tmp_path, "\n".join(lines)).message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file") as caught:
        read_document(tmp_path / "absent.yaml", {}, [])
    assert "absent.yaml" in str(caught.value)


def test_includes_join_lists_and_merge_mappings(tmp_path: Path) -> None:
    document, problems = read(
        tmp_path,
        {
            "c.yaml": "include: [sub/a.yaml, b.yaml]\nlist: [1]\nmap: {x: 1, deep: {a: 1}}\n",
            "sub/a.yaml": "include: [deep.yaml]\nlist: [2]\nmap: {x: 2, deep: {b: 2}}\n",
            "sub/deep.yaml": "list: [4]\n",
            "b.yaml": "list: [3]\nnew: yes\n",
        },
    )
    assert problems == []
    assert document.root == {
        "list": [1, 2, 3, 4],
        "map": {"x": 2, "deep": {"a": 1, "b": 2}},
        "new": True,
    }
    assert document.where(("list", 1)) == f"{tmp_path}/sub/a.yaml:2"
    assert document.where(("map", "x")) == f"{tmp_path}/sub/a.yaml:3"


def test_an_include_loop_is_a_warning_and_read_once(tmp_path: Path) -> None:
    document, (problem,) = read(
        tmp_path,
        {"c.yaml": "include: [d.yaml]\na: [1]\n", "d.yaml": "include: [c.yaml]\na: [2]\n"},
    )
    assert document.root["a"] == [1, 2]
    assert (problem.severity, problem.file) == ("warning", f"{tmp_path}/d.yaml:1")


@pytest.mark.parametrize("written", ["include: other.yaml", "include: [1]", "include: {a: b}"])
def test_an_include_that_is_no_list_is_named(tmp_path: Path, written: str) -> None:
    _, (problem,) = read(tmp_path, {"c.yaml": written})
    assert problem.key == "include"


def test_a_missing_include_is_an_error_where_it_was_asked_for(tmp_path: Path) -> None:
    _, (problem,) = read(tmp_path, {"c.yaml": "a: 1\ninclude:\n  - gone.yaml\n"})
    assert (problem.severity, problem.file) == ("error", f"{tmp_path}/c.yaml:3")


def test_variables_are_replaced_everywhere_and_remembered(tmp_path: Path) -> None:
    text = "a: os.environ/ONE\nb: [os.environ/TWO, x]\nenvironment_variables: {TWO: two}\nc: os.environ/NO\n"
    document, _ = read(tmp_path, {"c.yaml": text}, {"ONE": "one"})
    assert document.root["a"] == "one"
    assert document.root["b"] == ["two", "x"]
    assert document.root["c"] is None
    assert document.from_environ == {("a",): "ONE", ("b", 0): "TWO", ("c",): "NO"}


def test_the_real_environment_wins_over_the_files_own(tmp_path: Path) -> None:
    text = "environment_variables: {A: file, B: 2, C: os.environ/D}\nx: os.environ/A\ny: os.environ/C\n"
    document, _ = read(tmp_path, {"c.yaml": text}, {"A": "real", "D": "d"})
    assert (document.root["x"], document.root["y"]) == ("real", "d")
    assert merged_environ(document.root, {"A": "real"}) == {"A": "real", "B": "2", "C": "d"}


def test_the_digest_changes_with_any_of_the_files(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"c.yaml": "include: [d.yaml]\n", "d.yaml": "a: 1\n"}
    first = read(tmp_path, files)[0].digest
    assert read(tmp_path, files)[0].digest == first
    assert read(tmp_path, {**files, "d.yaml": "a: 2\n"})[0].digest != first
