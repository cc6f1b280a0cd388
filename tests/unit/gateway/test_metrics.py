from __future__ import annotations

from routeiq.gateway.metrics import render


def test_samples_are_rendered_as_prometheus_reads_them() -> None:
    said = render(
        iter(
            [
                ("a_up", "gauge", "Whether.", {'{store="x"}': 1.0, '{store="y"}': 0.0}),
                ("b_total", "counter", "How many.", {"": 12345678.0}),
            ]
        )
    )
    assert said.decode() == (
        "# HELP a_up Whether.\n"
        "# TYPE a_up gauge\n"
        'a_up{store="x"} 1\n'
        'a_up{store="y"} 0\n'
        "# HELP b_total How many.\n"
        "# TYPE b_total counter\n"
        "b_total 12345678\n"
    )
