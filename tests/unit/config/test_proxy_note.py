from __future__ import annotations

import pytest

from routeiq.config.loader import inspect_config

KEYS = {"OPENAI_API_KEY": "sk-x", "LITELLM_MASTER_KEY": "sk-m"}


@pytest.mark.parametrize(
    "environ", [{}, {"HTTPS_PROXY": "http://p:3128"}, {"https_proxy": "http://p"}]
)
def test_a_proxy_in_the_environment_is_said_to_have_no_effect(environ: dict[str, str]) -> None:
    _, problems = inspect_config(None, {**KEYS, **environ})
    assert [p.key for p in problems if "directly" in p.message] == list(environ)
