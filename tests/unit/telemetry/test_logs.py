from __future__ import annotations

import logging
import sys

import orjson

from routeiq.telemetry.logs import JsonFormatter, PlainFormatter


def record(**extra: object) -> logging.LogRecord:
    made = logging.LogRecord("routeiq.x", logging.WARNING, __file__, 1, "said %s", ("it",), None)
    vars(made).update(extra)
    return made


def test_json_line_has_the_standard_fields_and_the_extras() -> None:
    line = orjson.loads(JsonFormatter().format(record(deployment="d1", number=3)))
    assert line["level"] == "WARNING"
    assert line["message"] == "said it"
    assert line["service"] == "routeiq"
    assert line["deployment"] == "d1"
    assert line["number"] == 3
    assert line["timestamp"].endswith("+00:00")
    assert isinstance(line["worker_id"], int)


def test_json_line_survives_values_that_are_not_json() -> None:
    assert orjson.loads(JsonFormatter().format(record(odd=object())))["odd"].startswith("<object")


def test_exception_is_part_of_the_line() -> None:
    made = record()
    try:
        raise ValueError("boom")
    except ValueError:
        made.exc_info = sys.exc_info()
    assert "ValueError: boom" in orjson.loads(JsonFormatter().format(made))["exception"]
    assert "ValueError: boom" in PlainFormatter().format(made)


def test_plain_line_is_readable() -> None:
    text = PlainFormatter().format(record(deployment="d1"))
    assert "warning" in text
    assert text.endswith("said it deployment=d1")
