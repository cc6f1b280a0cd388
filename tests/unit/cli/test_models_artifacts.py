from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from routeiq.artifacts.artifact import Draft, write_artifact
from routeiq.artifacts.store import ArtifactStore
from routeiq.cli import models_artifacts as commands
from routeiq.exceptions import ConfigError, RouteIQError


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk makes no difference to a process that lives on."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made(tmp_path / "knn")


def made(folder: Path, seed: int = 0) -> Path:
    arrays = {"w": np.full(3, seed, np.float32)}
    write_artifact(folder, Draft(strategy="knn", features="f", models=("a",), arrays=arrays))
    return folder


def invoke(command: click.Command, *arguments: object, **env: str) -> Result:
    clean = dict.fromkeys(
        (
            "ROUTEIQ_MODELS_PATH",
            "ROUTEIQ_MODEL_S3_URI",
            "ROUTEIQ_ARTIFACT_PUBLIC_KEY",
            "ROUTEIQ_ARTIFACT_HMAC_KEY",
            "ROUTEIQ_ARTIFACT_REQUIRE_SIGNATURE",
        )
    )
    return CliRunner().invoke(command, [str(a) for a in arguments], env={**clean, **env})


def ok(command: click.Command, *arguments: object, **env: str) -> Any:
    done = invoke(command, *arguments, "--json", **env)
    assert done.exit_code == 0, done.output + repr(done.exception)
    return json.loads(done.output)


def test_keygen_sign_verify(folder: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    facts = ok(commands.keygen, key)
    assert key.stat().st_mode & 0o777 == 0o600
    public = facts["public_key_hex"]
    refused = invoke(commands.verify, folder, "--public-key", public)
    assert isinstance(refused.exception, RouteIQError)
    assert "not signed" in str(refused.exception)
    assert ok(commands.sign, folder, "--key", key)["key_id"] == facts["key_id"]
    checked = ok(commands.verify, folder, ROUTEIQ_ARTIFACT_PUBLIC_KEY=public)
    assert (checked["signature"], checked["strategy"]) == ("verified", "knn")
    assert ok(commands.verify, folder, "--public-key", f"{key}.pub")["signature"] == "verified"
    assert ok(commands.verify, folder)["signature"] == "unchecked"
    (folder / "weights.safetensors").write_bytes(b"x")
    damaged = invoke(commands.verify, folder)
    assert isinstance(damaged.exception, RouteIQError)
    assert "weights.safetensors is cut" in str(damaged.exception)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    assert invoke(commands.keygen, key).exit_code == 0
    before = key.read_bytes()
    again = invoke(commands.keygen, key)
    assert again.exit_code == 1
    assert "File exists" in again.output
    assert key.read_bytes() == before


def test_an_hmac_key_signs_too_and_an_explicit_key_wins(folder: Path, tmp_path: Path) -> None:
    secret = "00" * 32
    ok(commands.sign, folder, ROUTEIQ_ARTIFACT_HMAC_KEY=secret)
    assert ok(commands.verify, folder, "--hmac-key", secret)["signature"] == "verified"
    facts = ok(commands.keygen, tmp_path / "key.pem")
    signed = ok(
        commands.sign, folder, "--key", tmp_path / "key.pem", ROUTEIQ_ARTIFACT_HMAC_KEY=secret
    )
    assert signed["key_id"] == facts["key_id"]
    assert isinstance(invoke(commands.sign, folder).exception, ConfigError)


def test_stage_promote_rollback_list(folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "models"
    env = {"ROUTEIQ_MODELS_PATH": str(store)}
    assert invoke(commands.list_, "--store", store).output == f"no version is staged in {store}\n"
    one = ok(commands.stage, folder, **env)["version"]
    two = ok(commands.stage, made(tmp_path / "b", 1), **env)["version"]
    assert ok(commands.promote, one, **env)["version"] == one
    assert ok(commands.promote, two[:12], **env)["previous"] == [one]
    assert ArtifactStore(store).active("knn") == store / "versions" / two
    assert ok(commands.rollback, "knn", **env)["withdrawn"] == [two]
    lines = {line["version"]: line["state"] for line in ok(commands.list_, **env)["versions"]}
    assert lines == {one: "active", two: "withdrawn"}
    text = invoke(commands.list_, **env).output
    assert f"active     knn          {one}" in text
    assert "unsigned" in text
    refused = invoke(commands.promote, "f" * 32, **env)
    assert "not in the store" in str(refused.exception)
    strict = invoke(commands.promote, two, "--hmac-key", "00" * 32, **env)
    assert "not signed" in str(strict.exception)


def test_unsigned_artifacts_may_be_allowed_beside_a_key(folder: Path, tmp_path: Path) -> None:
    arguments = (folder, "--store", tmp_path / "m", "--hmac-key", "00" * 32)
    assert "not signed" in str(invoke(commands.stage, *arguments).exception)
    assert ok(commands.stage, *arguments, "--allow-unsigned")["version"]
    env = {"ROUTEIQ_ARTIFACT_REQUIRE_SIGNATURE": "true"}
    assert "no key" in str(invoke(commands.stage, folder, **env).exception)


def test_pull_brings_and_promotes(folder: Path, tmp_path: Path) -> None:
    env = {"ROUTEIQ_MODELS_PATH": str(tmp_path / "m"), "ROUTEIQ_MODEL_S3_URI": str(folder)}
    first = ok(commands.pull, **env)
    assert first["promoted"] is True
    assert ArtifactStore(tmp_path / "m").active("knn") is not None
    assert "nothing changed" in invoke(commands.pull, **env).output
    made(folder, 1)
    (folder / "weights.safetensors").write_bytes(b"x")
    bad = invoke(commands.pull, **env)
    assert bad.exit_code == 1
    assert "What is active has not changed" in bad.output
    assert ok(commands.list_, **env)["versions"][0]["version"] == first["version"]


def test_every_command_says_what_it_does() -> None:
    for command in (
        commands.verify,
        commands.sign,
        commands.keygen,
        commands.stage,
        commands.promote,
        commands.rollback,
        commands.list_,
        commands.pull,
    ):
        done = invoke(command, "--help")
        assert done.exit_code == 0
        assert "--json" in done.output
    assert commands.list_.name == "list"
