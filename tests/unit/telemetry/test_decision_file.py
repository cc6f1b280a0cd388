"""The decision log on disk, and the feedback that every worker reads."""

from __future__ import annotations

import base64
import errno
import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from routeiq.telemetry.decision_file import (
    FEEDBACK,
    DecisionFile,
    Encode,
    FeedbackTail,
    RotatingFile,
    append_feedback,
)
from routeiq.types import Decision, Ranked, RoutingRequest
from tests.support.routing import CHEAP, request

LINE = b'{"a":1}\n'
DECISION = Decision(
    id="d1",
    requested="auto",
    strategy="prior",
    reason="",
    ranking=(Ranked(deployment=CHEAP, score=0.5, utility=0.4, cost_usd=0.01),),
    propensities={"cheap": 0.98, "strong": 0.02},
)
WAIT_S = 5.0


def rotating(folder: Path, *, max_bytes: int = 100, keep: int = 2) -> RotatingFile:
    return RotatingFile(folder, "log", max_bytes=max_bytes, keep=keep)


def texts(folder: Path) -> dict[str, bytes]:
    """What is in each file, by the number in its name."""
    return {path.stem[-6:]: path.read_bytes() for path in sorted(folder.glob("*.jsonl"))}


def test_lines_are_appended_to_one_private_file(tmp_path: Path) -> None:
    file = rotating(tmp_path / "new" / "folder")
    for _ in range(3):
        assert file.write(memoryview(LINE)) == len(LINE)
    (path,) = (tmp_path / "new" / "folder").iterdir()
    assert path.name == f"log-{os.getpid()}-000001.jsonl"
    assert path.read_bytes() == LINE * 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_file_is_followed_by_another_and_the_oldest_go(tmp_path: Path) -> None:
    file = rotating(tmp_path, max_bytes=2 * len(LINE), keep=2)
    for _ in range(7):
        file.write(memoryview(LINE))
    assert texts(tmp_path) == {"000003": LINE * 2, "000004": LINE}


def test_what_was_there_counts_towards_the_size(tmp_path: Path) -> None:
    rotating(tmp_path).write(memoryview(b"x" * 99 + b"\n"))
    again = rotating(tmp_path)
    again.write(memoryview(LINE))
    again.write(memoryview(LINE))
    assert texts(tmp_path) == {"000001": b"x" * 99 + b"\n" + LINE, "000002": LINE}


def test_a_process_that_was_forked_has_files_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = rotating(tmp_path)
    monkeypatch.setattr(os, "getpid", lambda: 4242)
    file.write(memoryview(LINE))
    assert [path.name for path in tmp_path.iterdir()] == ["log-4242-000001.jsonl"]


class FullDisk:
    """`os.write` that takes a few bytes at a time and then none, until there is room again."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.write = os.write

    def __call__(self, fd: int, view: memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "no space")
        taken = self.write(fd, bytes(view)[: min(3, self.room)])
        self.room -= taken
        return taken


def test_a_line_that_the_disk_cut_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(room=len(LINE) + 4)
    monkeypatch.setattr(os, "write", disk)
    file = rotating(tmp_path)
    file.write(memoryview(LINE))
    for _ in range(2):
        with pytest.raises(OSError, match="no space"):
            file.write(memoryview(LINE))
    disk.room = 100
    file.write(memoryview(LINE))
    assert texts(tmp_path) == {"000001": LINE * 2}


def test_a_file_that_cannot_be_opened_is_tried_again_under_the_same_number(tmp_path: Path) -> None:
    folder = tmp_path / "late"
    folder.write_text("in the way")
    file = rotating(folder)
    for _ in range(2):
        with pytest.raises(OSError, match="late"):
            file.write(memoryview(LINE))
    folder.unlink()
    file.write(memoryview(LINE))
    assert texts(folder) == {"000001": LINE}


def logged(folder: Path, *, text: bool = False, encode: Encode | None = None) -> DecisionFile:
    return DecisionFile(
        folder, started=1_800_000_000.4, max_bytes=10_000, keep=2, text=text, encode=encode
    )


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for text in texts(folder).values() for line in text.splitlines()]


def encode(request: RoutingRequest) -> tuple[str, bytes]:
    return "static-1", b"\x00\x3c"  # 1.0 as float16


def test_an_event_has_decision_features_and_hash_but_no_prompt(tmp_path: Path) -> None:
    file = logged(tmp_path, encode=encode)
    file.add({"decision_id": "d1", "model": "strong"}, request("secret"), DECISION)
    file.flush(WAIT_S)
    (event,) = events(tmp_path)
    assert (event["kind"], event["decision_id"], event["model"]) == ("decision", "d1", "strong")
    assert event["chosen"] == "cheap"
    assert event["propensities"] == {"cheap": 0.98, "strong": 0.02}
    assert event["candidates"][0]["cost_usd"] == 0.01
    assert event["fingerprint"] == "static-1"
    assert base64.b64decode(event["features"]) == b"\x00\x3c"
    assert event["route_text_hash"].startswith("2bb80d537b1da3e3")  # sha256 of "secret"
    assert "secret" not in json.dumps(event)
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("decisions-1800000000-")


def test_the_prompt_is_written_where_the_operator_asks(tmp_path: Path) -> None:
    file = logged(tmp_path, text=True)
    file.add({}, request("open"), DECISION)
    file.flush(WAIT_S)
    (event,) = events(tmp_path)
    assert event["route_text"] == "open"
    assert "features" not in event


def test_a_record_that_cannot_be_rendered_costs_itself_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = logged(tmp_path)
    with caplog.at_level(logging.ERROR):
        file.add({"bad": object()}, request(), DECISION)
        file.add({"decision_id": "next"}, request(), DECISION)
        file.flush(WAIT_S)
    assert [event["decision_id"] for event in events(tmp_path)] == ["next"]
    assert file.dropped == 1
    assert "could not be rendered" in caplog.text


def test_records_that_the_disk_does_not_take_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.write_text("in the way")
    file = logged(folder)
    file.add({}, request(), DECISION)
    file.flush(WAIT_S)
    assert file.dropped == 1
    folder.unlink()
    file.add({"decision_id": "later"}, request(), DECISION)
    file.flush(WAIT_S)
    assert [event["decision_id"] for event in events(folder)] == ["later"]


def ids(tail: FeedbackTail) -> list[Any]:
    return [event.get("decision_id") for event in tail.read()]


def test_the_tail_reads_each_event_once_and_nothing_from_before(tmp_path: Path) -> None:
    append_feedback(tmp_path, {"decision_id": "old"})
    tail = FeedbackTail(tmp_path)
    assert ids(tail) == []
    append_feedback(tmp_path, {"decision_id": "a"})
    append_feedback(tmp_path, {"decision_id": "b", "score": 0.5})
    assert tail.read() == [
        {"kind": "feedback", "decision_id": "a"},
        {"kind": "feedback", "decision_id": "b", "score": 0.5},
    ]
    assert ids(tail) == []
    assert stat.S_IMODE((tmp_path / FEEDBACK).stat().st_mode) == 0o600


def test_the_tail_waits_for_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    tail = FeedbackTail(tmp_path / "log")
    assert ids(tail) == []
    append_feedback(tmp_path / "log", {"decision_id": "first"})
    assert ids(tail) == ["first"]


def test_a_line_that_is_still_being_written_is_left_for_the_next_look(tmp_path: Path) -> None:
    tail = FeedbackTail(tmp_path)
    path = tmp_path / FEEDBACK
    path.write_bytes(b'{"decision_id":"a"}\n{"decision_')
    assert ids(tail) == ["a"]
    assert ids(tail) == []
    with open(path, "ab") as file:
        file.write(b'id":"b"}\n')
    assert ids(tail) == ["b"]


@pytest.mark.parametrize("garbage", [b"{cut", b"", b"\xff\xfe", b"[1]", b"7", b'"x"'])
def test_garbage_between_events_is_passed_over(tmp_path: Path, garbage: bytes) -> None:
    tail = FeedbackTail(tmp_path)
    good = b'{"decision_id":"a"}\n'
    (tmp_path / FEEDBACK).write_bytes(good + garbage + b"\n" + good)
    assert ids(tail) == ["a", "a"]


def test_a_file_that_was_emptied_is_read_from_its_start(tmp_path: Path) -> None:
    append_feedback(tmp_path, {"decision_id": "a long event, so that the next is shorter"})
    tail = FeedbackTail(tmp_path)
    (tmp_path / FEEDBACK).write_bytes(b'{"decision_id":"b"}\n')
    assert ids(tail) == ["b"]


def test_a_file_that_was_replaced_by_a_longer_one_is_read_from_its_start(tmp_path: Path) -> None:
    append_feedback(tmp_path, {"decision_id": "a"})
    tail = FeedbackTail(tmp_path)
    (tmp_path / FEEDBACK).rename(tmp_path / "rotated")
    for name in ("b", "c", "d"):
        append_feedback(tmp_path, {"decision_id": name})
    assert ids(tail) == ["b", "c", "d"]


def test_feedback_after_a_line_that_a_full_disk_cut_is_whole(tmp_path: Path) -> None:
    tail = FeedbackTail(tmp_path)
    (tmp_path / FEEDBACK).write_bytes(b'{"decision_id":"cu')
    append_feedback(tmp_path, {"decision_id": "next"})
    assert ids(tail) == ["next"]


def test_feedback_that_was_stored_in_part_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", lambda fd, line: len(line) - 1)
    with pytest.raises(OSError, match="No space") as raised:
        append_feedback(tmp_path, {"decision_id": "a"})
    assert raised.value.errno == errno.ENOSPC


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    tail = FeedbackTail(tmp_path)
    (tmp_path / FEEDBACK).mkdir()
    with pytest.raises(IsADirectoryError):
        tail.read()


def test_a_folder_that_cannot_be_is_no_reason_not_to_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    tail = FeedbackTail(tmp_path / "file" / "log")
    with pytest.raises(NotADirectoryError):
        tail.read()
