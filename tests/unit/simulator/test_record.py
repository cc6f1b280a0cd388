from __future__ import annotations

from routeiq.simulator.record import ReceivedRequest, RequestLog


def received(path: str = "/", body: bytes = b"") -> ReceivedRequest:
    return ReceivedRequest(method="POST", path=path, body=body)


def test_headers_are_lower_case_and_json_is_parsed_when_asked() -> None:
    request = received(body=b'{"a": 1}')
    request.raw_headers = [(b"X-One", b"1"), (b"x-one", b"2")]
    assert request.headers == {"x-one": "2"}
    assert request.json == {"a": 1}


def test_a_body_that_is_not_json_is_none() -> None:
    assert received(body=b"{").json is None
    assert received().json is None


def test_as_dict_is_what_the_admin_route_shows() -> None:
    shown = received("/v1/models").as_dict()
    assert shown["path"] == "/v1/models"
    assert set(shown) == {"method", "path", "headers", "json", "time", "status", "disconnected"}


def test_the_log_keeps_the_latest_requests_in_order() -> None:
    log = RequestLog()
    for number in range(10_005):
        log.add(received(f"/{number}"))
    kept = [request.path for request in log.all()]
    assert (len(kept), kept[0], kept[-1]) == (10_000, "/5", "/10004")


def test_the_log_is_bounded_in_bytes() -> None:
    log = RequestLog()
    body = b"x" * (20 * 1024 * 1024)
    for number in range(5):
        log.add(received(f"/{number}", body))
    assert [request.path for request in log.all()] == ["/2", "/3", "/4"]


def test_clear_forgets_everything() -> None:
    log = RequestLog()
    log.add(received())
    log.clear()
    assert log.all() == ()
