"""Golden cases: configurations with mistakes, and exactly what is said about them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routeiq.config.litellm_sections import ConfigFile
from routeiq.config.loader import inspect_config, load_config
from routeiq.config.names import option_names
from routeiq.config.validation import SECTIONS, is_secret, key_text
from routeiq.exceptions import ConfigError
from tests.support.golden import DATA, ENVIRON, cases, expected, said


@pytest.mark.parametrize("case", cases("problems"))
def test_everything_that_is_wrong_is_said_with_place_and_fix(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(DATA)
    assert said(case) == expected(case)


@pytest.mark.parametrize("case", cases("problems"))
def test_no_secret_is_in_any_message(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)
    config, problems = inspect_config(case, ENVIRON)
    for secret in ("sk-secret", "sk-written"):
        assert secret not in repr(problems)
        assert secret not in repr(config)


def test_load_config_raises_with_all_of_it() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(str(DATA / "problems/wrong-values.yaml"), ENVIRON)
    assert len(caught.value.problems) > 20


def test_no_option_stands_in_two_tables() -> None:
    table = option_names()
    for section, reasons in table.reasons.items():
        read = set(SECTIONS[section].model_fields)
        always = table.always.get(section, frozenset())
        assert not read & reasons.keys()
        assert not always & (read | reasons.keys())
        if section == "litellm_params":
            assert not table.body_params & (read | reasons.keys())


def test_every_option_that_is_read_is_described() -> None:
    described = option_names().read
    for section, model in SECTIONS.items():
        assert set(described[section]) == set(model.model_fields)


@pytest.mark.parametrize(
    ("section", "option"),
    [
        (section, option)
        for section, reasons in sorted(option_names().reasons.items())
        for option in sorted(reasons)
        if section != "top"
    ][::7],
)
def test_an_unsupported_option_is_named_unless_it_is_off(
    section: str, option: str, tmp_path: Path
) -> None:
    def problems(value: str) -> list[str]:
        params = f", {option}: {value}" if section == "litellm_params" else ""
        text = f"model_list: [{{model_name: a, litellm_params: {{model: openai/a{params}}}}}]\n"
        text += "" if params else f"{section}: {{{option}: {value}}}\n"
        (tmp_path / "c.yaml").write_text(text)
        return [p.message for p in inspect_config(str(tmp_path / "c.yaml"), {})[1]]

    (message,) = problems("[something]")
    assert message == f"not supported yet: {option_names().reasons[section][option]}."
    assert problems("false") == ([message] if option in option_names().on_by_default else [])


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("api_key", True),
        ("master_key", True),
        ("azure_ad_token", True),
        ("extra_headers", True),
        ("client_secret", True),
        ("input_cost_per_token", False),
        ("max_tokens", False),
        ("model", False),
    ],
)
def test_what_is_never_shown(name: str, secret: bool) -> None:
    assert is_secret(("model_list", 0, name)) is secret


def test_keys_are_written_as_paths() -> None:
    assert (
        key_text(("model_list", 0, "litellm_params", "model"))
        == "model_list[0].litellm_params.model"
    )


_KEYS = st.sampled_from(
    sorted(
        {
            *ConfigFile.model_fields,
            "litellm_params",
            "model_info",
            "model",
            "model_name",
            "api_key",
            "fallbacks",
            "routing_strategy",
            "routing_groups",
            "model_group_alias",
            "num_retries",
            "strategy",
            "profiles",
            "groups",
            "models",
            "prices",
            "cache",
            "name",
            "options",
            "id",
            "tags",
            "headers",
            "x-y",
            "zzz",
        }
    )
) | st.text(max_size=4)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["os.environ/", "os.environ/X", "openai/*", "*", "auto", "round-robin", "[!"])
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=25,
)


@given(_VALUES)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_any_structure_gives_a_config_or_a_config_error(tmp_path: Path, value: object) -> None:
    _read(tmp_path, yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "replace"))


@given(
    st.binary(max_size=60)
    | st.text(alphabet="abc:-[]{}&*!#|>'\"%@`, \n\t<0.", max_size=60).map(str.encode)
)
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_give_a_config_or_a_config_error(tmp_path: Path, content: bytes) -> None:
    _read(tmp_path, content)


def _read(folder: Path, content: bytes) -> None:
    path = folder / "c.yaml"
    path.write_bytes(content)
    config, problems = inspect_config(str(path), {"OPENAI_API_KEY": "sk-secret-of-the-environment"})
    assert "sk-secret" not in repr(problems)
    assert (config is not None and config.source == str(path)) or problems
    wrong = any(problem.severity == "error" for problem in problems)
    with pytest.raises(ConfigError) if wrong else nullcontext():
        load_config(str(path), {"OPENAI_API_KEY": "sk-secret-of-the-environment"})
