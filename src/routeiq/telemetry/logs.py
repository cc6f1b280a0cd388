"""Structured logs: one JSON object a line, on stdout, for our own and for libraries' messages."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

from routeiq.telemetry.output import Output

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Renders a record and its `extra` fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "service": "routeiq",
            "logger": record.name,
            "message": record.getMessage(),
            "worker_id": record.process,
        }
        line.update((k, v) for k, v in vars(record).items() if k not in _STANDARD)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=repr).decode()


class PlainFormatter(logging.Formatter):
    """For a terminal: time, level, message, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of text."""
        extra = " ".join(f"{k}={v}" for k, v in vars(record).items() if k not in _STANDARD)
        clock = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        text = f"{clock} {record.levelname.lower():7} {record.getMessage()} {extra}".rstrip()
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class OutputHandler(logging.Handler):
    """Hands lines to the output's thread: a log line must not block the event loop."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self.output = output

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one line."""
        line = self.format(record).encode() + b"\n"
        self.output.put(lambda: line)


def configure_logging(level: str = "info") -> Output:
    """Send every logger through one handler to stdout; plain text where that is a terminal.

    Returns the output, which the access log shares and which is flushed when the process ends.
    """
    output = Output()
    handler = OutputHandler(output)
    handler.setFormatter(PlainFormatter() if sys.stdout.isatty() else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, root.level))
    return output
