"""`routeiq models` and `routeiq replay` from end to end, and what they say when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from routeiq.simulator.sample import prompts
from tests.integration.conftest import StartGateway
from tests.integration.helpers import chat
from tests.integration.learned import feed, placed, routeiq, run, sample, serving, train, version
from tests.support.processes import SimulatorProcess, wait_until

ROWS = 150
MODELS = {"sim-nano", "sim-small", "sim-medium", "sim-large", "sim-reasoner"}
EVALUATED = ("--resamples", "50", "--no-litellm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train.jsonl`, `test.jsonl`, and artifacts `knn` and `logistic`. No test changes them."""
    made = tmp_path_factory.mktemp("cli")
    data = sample(made / "train.jsonl", ROWS, 1)
    sample(made / "test.jsonl", 400, 2)
    for kind in ("knn", "logistic"):
        train(made / kind, kind, data)
    return made


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def refused(*arguments: str | Path, code: int = 1) -> str:
    """What a command says that must end with `code`, and without a traceback."""
    done = run(*arguments)
    assert done.returncode == code, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    return done.stderr


def test_sample_and_data(folder: Path, tmp_path: Path) -> None:
    again = sample(tmp_path / "again.jsonl", ROWS, 1)
    assert again.read_bytes() == (folder / "train.jsonl").read_bytes()
    rows = lines(again)
    assert all(row["scores"].keys() == MODELS == row["costs"].keys() for row in rows)
    found = json.loads(routeiq("models", "data", again, "--json"))
    assert f"{ROWS} rows, 5 models" in routeiq("models", "data", again)
    assert str(ROWS) in json.dumps(found)
    routeiq("models", "data", again, "--against", folder / "test.jsonl", "--similar", "1.0")
    both = run("models", "data", again, "--against", folder / "train.jsonl")
    assert both.returncode == 1  # the test rows are among the training rows


def test_the_same_data_and_seed_train_the_same_version(folder: Path, tmp_path: Path) -> None:
    said = routeiq(
        *("models", "train", "--strategy", "knn", "--data", folder / "train.jsonl"),
        *("--out", tmp_path / "knn", "--json", "--quiet"),
    )
    manifest = json.loads(said)
    assert manifest["strategy"] == "knn"
    assert set(manifest["models"]) == MODELS
    weights = "weights.safetensors"
    assert (tmp_path / "knn" / weights).read_bytes() == (folder / "knn" / weights).read_bytes()


def test_evaluate_and_compare(folder: Path, tmp_path: Path) -> None:
    data = ("--data", folder / "test.jsonl", *EVALUATED)
    out, page = tmp_path / "report.json", tmp_path / "report.html"
    text = routeiq(
        *("models", "evaluate", "--artifact", folder / "logistic", *data),
        *("--json", out, "--html", page),
    )
    report = json.loads(out.read_text())
    assert report["rows"] == 400
    (entry,) = (one for one in report["entries"] if one["name"] == "logistic")
    assert 0.5 < entry["metrics"]["accuracy"] <= 1.0
    assert "logistic" in text
    assert "<html" in page.read_text()
    compared = tmp_path / "compared.json"
    routeiq(
        "models", "compare", folder / "logistic", folder / "knn", "prior", *data, "--json", compared
    )
    named = {one["name"]: one for one in json.loads(compared.read_text())["entries"]}
    assert {"logistic", "knn", "prior"} <= {name.split(" ")[0] for name in named}
    same = next(one for name, one in named.items() if name.startswith("logistic"))["metrics"][
        "accuracy"
    ]
    assert same == entry["metrics"]["accuracy"]


def test_calibrate_and_card(folder: Path, tmp_path: Path) -> None:
    new = tmp_path / "certified"
    said = routeiq(
        *("models", "calibrate", "--artifact", folder / "logistic", "--reference", "sim-reasoner"),
        *("--data", folder / "test.jsonl", "--epsilon", "0.1", "--out", new),
    )
    assert "certified: not worse than sim-reasoner" in said
    assert version(new) != version(folder / "logistic")
    (found,) = json.loads((new / "manifest.json").read_text())["certificates"]
    assert found["epsilon"] == 0.1
    card = routeiq("models", "card", "--artifact", new, "--contact", "ml@example.org")
    assert "ml@example.org" in card
    assert "sim-reasoner" in routeiq("models", "card", "--artifact", new)
    routeiq("models", "verify", new)


def test_score_and_inspect_agree(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    routeiq(
        "models",
        "score",
        "--artifact",
        folder / "knn",
        "--data",
        folder / "test.jsonl",
        "--out",
        out,
    )
    rows = lines(folder / "test.jsonl")
    scored = lines(out)
    assert [row["id"] for row in scored] == [row["id"] for row in rows]
    first = rows[0]["route_text"]
    found = json.loads(routeiq("models", "inspect", first, "--artifact", folder / "knn", "--json"))
    assert found["scores"] == pytest.approx(scored[0]["scores"], abs=1e-5)
    assert found["version"] == version(folder / "knn")
    assert "sim-nano" in routeiq("models", "inspect", first, "--artifact", folder / "knn")


def test_sign_verify_and_the_store(folder: Path, tmp_path: Path) -> None:
    store, artifact = tmp_path / "store", placed(tmp_path, folder / "knn") / "knn"
    key = tmp_path / "key.pem"
    routeiq("models", "keygen", key)
    public = tmp_path / "key.pem.pub"
    assert "not signed" in refused("models", "verify", artifact, "--public-key", public)
    routeiq("models", "sign", artifact, "--key", key)
    assert "whole" in routeiq("models", "verify", artifact, "--public-key", public)
    stage = ("models", "stage", artifact, "--store", store, "--public-key", public, "--json")
    staged = json.loads(routeiq(*stage))["version"]
    other = json.loads(routeiq("models", "stage", folder / "knn", "--store", store, "--json"))
    assert other["version"] == staged  # a version is its content: the signature is no part of it
    again = train(tmp_path / "again", "knn", sample(tmp_path / "more.jsonl", ROWS, 5))
    second = json.loads(routeiq("models", "stage", again, "--store", store, "--json"))["version"]

    def states() -> dict[str, str]:
        found = json.loads(routeiq("models", "list", "--store", store, "--json"))["versions"]
        return {one["version"]: one["state"] for one in found}

    assert states() == {staged: "staged", second: "staged"}
    routeiq("models", "promote", staged, "--store", store)
    routeiq("models", "promote", second[:12], "--store", store)
    assert states() == {staged: "previous", second: "active"}
    routeiq("models", "rollback", "knn", "--store", store)
    assert states() == {staged: "active", second: "withdrawn"}
    assert "no version before" in refused("models", "rollback", "knn", "--store", store)


def test_export_and_import_keep_the_scores(folder: Path, tmp_path: Path) -> None:
    out, back = tmp_path / "llmrouter", tmp_path / "back.jsonl"
    routeiq("models", "export", folder / "train.jsonl", "--to", "llmrouter", "--out", out)
    exported = (out / "routing_data.jsonl", out / "llm_candidates.json")
    routeiq("models", "import", *exported, "--out", back)
    before, after = lines(folder / "train.jsonl"), lines(back)
    assert [row["route_text"] for row in after] == [row["route_text"] for row in before]
    assert [row["scores"] for row in after] == [row["scores"] for row in before]
    train(tmp_path / "knn", "knn", back)


def test_replay_on_the_log_of_a_gateway(
    start: StartGateway, simulator: SimulatorProcess, folder: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    gateway = serving(
        start,
        simulator,
        tmp_path / "models",
        strategy={"name": "adaptive", "options": {"exploration": 0.4}},
        learning={"decision_log": str(log)},
    )
    count = 60
    for text in prompts(count, 3):
        answer = chat(gateway, "auto", text)
        right = answer.json()["choices"][0]["message"]["content"].startswith("Right")
        feed(gateway, answer, float(right))

    def written() -> bool:
        return sum(len(lines(path)) for path in log.glob("decisions-*")) == count

    wait_until(written, "the log is complete")
    said = json.loads(
        routeiq(
            *("replay", "--log", log, "--artifact", folder / "knn"),
            *("--artifact", folder / "logistic", "--json"),
        )
    )
    assert said["requests"] == count
    assert 0.0 < said["as_logged"]["value"] <= 1.0
    names = [one["name"] for one in said["strategies"]]
    assert names == [str(folder / "knn"), str(folder / "logistic")]
    for one in said["strategies"]:
        assert sum(one["selection"].values()) == pytest.approx(1.0)
        assert one["estimates"] or one["overlap"]
    assert f"{count} requests" in routeiq("replay", "--log", log, "--artifact", folder / "knn")
    with open(next(log.glob("decisions-*")), "ab") as file:
        file.write(b'{"kind": "decision", "cut')
    cut = run("replay", "--log", log, "--artifact", folder / "knn", "--json")
    assert "Traceback" not in cut.stderr
    if cut.returncode == 0:
        assert json.loads(cut.stdout)["requests"] == count
    else:
        assert f":{count + 1}" in cut.stderr


BAD = (
    '{"id": "1", "route_text": "a", "scores": {"m": 0.5}}\n'
    '{"id": "2", "route_text":\n'
    '{"id": "3", "route_text": "b", "scores": {"m": 7}}\n'
)


def test_bad_rows_are_named_with_file_and_line(folder: Path, tmp_path: Path) -> None:
    bad, out = tmp_path / "bad.jsonl", tmp_path / "out"
    bad.write_text(BAD)
    for command in (
        ("models", "train", "--quiet", "--data", bad, "--out", out),
        ("models", "import", bad, "--out", out),
        ("models", "data", bad),
        ("models", "evaluate", "--strategy", "prior", "--data", bad, *EVALUATED),
    ):
        said = refused(*command)
        assert f"{bad}:2: not valid JSON" in said
        assert f"{bad}:3: the score of 'm' must be from 0 to 1, not 7" in said
        assert not out.exists()
    scoring = ("models", "score", "--artifact", folder / "knn", "--data", bad, "--out", out)
    assert f"{bad}:2" in refused(*scoring)
    assert not out.exists()
    skipped = run("models", "import", bad, "--out", out, "--skip-bad-rows")
    assert skipped.returncode == 0
    assert f"{bad}:2" in skipped.stderr
    assert [row["id"] for row in lines(out)] == ["1"]


def test_what_cannot_be_trained_says_why(folder: Path, tmp_path: Path) -> None:
    data, out = folder / "train.jsonl", tmp_path / "out"
    command = ("models", "train", "--quiet", "--out", out)
    assert "no strategy 'nope'" in refused(*command, "--strategy", "nope", "--data", data)
    few = tmp_path / "few.jsonl"
    few.write_text("".join(data.read_text().splitlines(keepends=True)[:3]))
    assert "3 rows" in refused(*command, "--data", few)
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    assert "no row" in refused(*command, "--data", empty)
    prose = tmp_path / "prose.txt"
    prose.write_text("hello")
    assert ".jsonl" in refused(*command, "--data", prose)
    assert "does not exist" in refused(*command, "--data", tmp_path / "nothing", code=2)
    assert not out.exists()
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (
            ("calibrate", "--artifact", "knn", "--data", "train.jsonl", "--reference", "sim-large"),
            "trained on",
            2,
        ),
        (
            ("calibrate", "--artifact", "knn", "--data", "test.jsonl", "--reference", "gpt-0"),
            "gpt-0",
            1,
        ),
        (("evaluate", "--data", "test.jsonl"), "exactly one", 2),
        (("evaluate", "--strategy", "nope", "--data", "test.jsonl"), "nope", 2),
        (("compare", "knn", "nope", "--data", "test.jsonl"), "nope", 2),
        (("score", "--strategy", "nope", "--data", "test.jsonl", "--out", "out"), "nope", 2),
        (("score", "--artifact", "knn", "--data", "test.jsonl", "--out", "no/out"), "no/out", 1),
        (("sample", "--rows", "3", "--out", "no/out"), "no/out", 1),
        (("verify", "."), "manifest.json", 1),
        (("promote", "abc", "--store", "store"), "not in the store", 1),
        (("rollback", "knn", "--store", "store"), "nothing is promoted", 1),
        (("stage", ".", "--store", "store"), "manifest.json", 1),
        (("sign", "knn"), "key", None),
        (("card", "--artifact", "knn", "--metrics", "test.jsonl"), "not a report", 2),
        (("inspect", "hello", "--artifact", "nothing"), "does not exist", 2),
        (("pull", "ftp://nowhere", "--store", "store"), "ftp", None),
        (("export", "test.jsonl", "--to", "nothing", "--out", "out"), "llmrouter", 2),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_mistakes_are_named(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    says: str,
    code: int | None,
) -> None:
    before = sorted(path.name for path in folder.iterdir())
    monkeypatch.chdir(folder)
    done = run("models", *arguments)
    assert done.returncode == code or (code is None and done.returncode in (1, 2)), done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--strategy", "prior"), "--log or --prompts"),
        (("--prompts", "test.jsonl"), "at least one"),
        (("--prompts", "test.jsonl", "--strategy", "prior", "--profile", "x"), "no profile 'x'"),
        (("--log", "test.jsonl", "--strategy", "prior"), "test.jsonl"),
    ],
)
def test_mistakes_in_replay_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(folder)
    done = run("replay", *arguments)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_artifact_that_was_tampered_with_is_refused_everywhere(
    folder: Path, tmp_path: Path
) -> None:
    artifact = placed(tmp_path, folder / "knn") / "knn"
    weights = artifact / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    out = tmp_path / "out"
    for command in (
        ("verify", artifact),
        ("stage", artifact, "--store", tmp_path / "store"),
        ("score", "--artifact", artifact, "--data", folder / "test.jsonl", "--out", out),
        ("inspect", "hello", "--artifact", artifact),
        ("sign", artifact, "--hmac-key", "5a" * 32),
        ("card", "--artifact", artifact),
    ):
        assert "weights.safetensors" in refused("models", *command)
    assert not out.exists()
