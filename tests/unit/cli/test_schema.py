"""`routeiq schema`."""

from __future__ import annotations

import json

from click.testing import CliRunner

from routeiq.cli.schema import schema
from routeiq.config.schema import json_schema


def test_the_schema_is_printed_as_json() -> None:
    result = CliRunner().invoke(schema)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json_schema()
