"""`routeiq models calibrate --strong-share`, and signing what `calibrate` and `card` write."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from routeiq.artifacts.artifact import open_artifact, sign_artifact
from routeiq.artifacts.signature import signer_from, verifier_from
from routeiq.cli import models_evaluate
from routeiq.config.section import RouteIQSection
from routeiq.exceptions import ConfigError
from routeiq.strategies.threshold import ThresholdStrategy
from routeiq.training.table import Table
from tests.support.artifacts import tiny_artifact, tiny_table

SECRET = "ab" * 32
PAIR = ("--strong", "model-0", "--weak", "model-2", "--strong-share", "0.3")


def held_out() -> Table:
    found = tiny_table(400, seed=9)
    return replace(
        found,
        costs=np.tile(np.array([3e-3, 2e-3, 1e-3], np.float32), (len(found), 1)),
        prior=np.linspace(0.0, 1.0, len(found), dtype=np.float32),
        digest="cd" * 32,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "knn"
    tiny_artifact(folder, "knn")
    return folder


@pytest.fixture
def folder(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(models_evaluate, "_table", lambda data: held_out())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "held.jsonl").write_text("")
    shutil.copytree(trained, tmp_path / "art")
    return tmp_path


def run(name: str, *words: str) -> Result:
    return CliRunner().invoke(getattr(models_evaluate, name), list(words))


def share(*words: str) -> Result:
    return run("calibrate", "--data", "held.jsonl", *words)


@pytest.mark.parametrize("words", [("--artifact", "art"), ("--strategy", "prior")])
def test_the_threshold_for_a_share_comes_with_the_section_to_copy(
    folder: Path, words: tuple[str, str]
) -> None:
    before = (folder / "art" / "manifest.json").read_bytes()
    done = share(*words, *PAIR)
    assert done.exit_code == 0, done.output
    first, *rest = done.stdout.splitlines()
    assert first.endswith(": 30.0% of 400 rows to model-0")
    section = yaml.safe_load("\n".join(rest))
    options = section["strategy"]["options"]
    assert float(first.split()[1].rstrip(":")) == options["threshold"]
    RouteIQSection.model_validate(section)
    ThresholdStrategy.Options(**options)
    assert ("artifact" in options) is (words[0] == "--artifact")
    assert options["using"] == ("knn" if words[0] == "--artifact" else "prior")
    assert ("prices" in done.stderr) is (words[0] == "--strategy")
    assert (folder / "art" / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--artifact", "art"),
        ("--reference", "model-0"),
        ("--artifact", "art", "--strong-share", "0.3"),
        ("--artifact", "art", "--strong-share", "0.3", "--strong", "model-0"),
        ("--artifact", "art", "--reference", "model-0", *PAIR),
        ("--artifact", "art", "--reference", "model-0", "--strong", "model-0"),
        ("--strategy", "prior", "--reference", "model-0"),
        ("--artifact", "art", "--strong-share", "1.5"),
    ],
)
def test_options_that_do_not_belong_together_are_usage_errors(
    folder: Path, words: tuple[str, ...]
) -> None:
    assert share(*words).exit_code == 2


def test_a_share_needs_exactly_one_predictor(folder: Path) -> None:
    both = ("--artifact", "art", "--strategy", "prior")
    assert isinstance(share(*PAIR).exception, ConfigError)
    assert isinstance(share(*both, *PAIR).exception, ConfigError)


CERTIFY = ("--artifact", "art", "--reference", "model-0", "--epsilon", "0.2", "--delta", "0.2")


def signed_by_us(folder: Path) -> bool:
    verifier = verifier_from(public_key=None, hmac_key=SECRET, required=True)
    return open_artifact(folder, verifier=verifier).manifest.signature is not None


def test_a_certified_version_is_signed_where_a_key_is_given(folder: Path) -> None:
    done = share(*CERTIFY, "--out", "two", "--hmac-key", SECRET)
    assert done.exit_code == 0, done.output
    assert signed_by_us(folder / "two")
    assert done.stderr == ""
    assert open_artifact(folder / "art").manifest.signature is None


def test_a_card_is_signed_where_a_key_is_given(folder: Path) -> None:
    done = run("card", "--artifact", "art", "--source", "our logs", "--hmac-key", SECRET)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "- our logs" in done.stdout
    assert signed_by_us(folder / "art")


def test_an_ed25519_key_signs_too(folder: Path) -> None:
    done = share(*CERTIFY, "--out", "two", "--private-key", "cd" * 32)
    assert done.exit_code == 0, done.output
    signature = json.loads((folder / "two" / "manifest.json").read_text())["signature"]
    assert signature["type"] == "ed25519"


def test_a_signature_that_is_lost_is_noted(folder: Path) -> None:
    sign_artifact(folder / "art", signer_from(hmac_key=SECRET))
    done = run("card", "--artifact", "art", "--contact", "us")
    assert "this one is not: sign it again" in done.stderr
    sign_artifact(folder / "art", signer_from(hmac_key=SECRET))
    assert "sign it again" in share(*CERTIFY, "--out", "two").stderr
    assert "sign it again" not in share(*CERTIFY, "--out", "2", "--hmac-key", SECRET).stderr


def test_a_bad_key_is_told_before_anything_is_written(folder: Path) -> None:
    for done in (
        share(*CERTIFY, "--out", "two", "--hmac-key", "short"),
        run("card", "--artifact", "art", "--out", "two", "--hmac-key", "short"),
    ):
        assert isinstance(done.exception, ConfigError)
    assert not (folder / "two").exists()
