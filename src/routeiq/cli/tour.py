"""The guided tour of `routeiq demo`: what was asked, what was chosen and why, what it saved."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
import orjson

if TYPE_CHECKING:
    from routeiq.simulator import SimulatedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One request of the tour."""

    title: str
    prompt: str
    profile: str | None = None
    extra: Mapping[str, Any] | None = None


WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
HARD = (
    "Prove step by step that there are infinitely many primes congruent to 3 modulo 4, then design a "
    "concurrent algorithm in Rust that enumerates them, and derive its complexity."
)
MIDDLE = (
    "Explain why quicksort is fast on average, and compare it with merge sort for linked lists."
)
STOPS = (
    Stop(title="A simple question goes to a cheap model.", prompt="What is the capital of France?"),
    Stop(title="A hard one goes to a strong model.", prompt=HARD),
    Stop(title="One in between, balanced: the profile 'auto'.", prompt=MIDDLE),
    Stop(
        title="The same at the lowest price that is good enough: 'eco'.",
        prompt=MIDDLE,
        profile="eco",
    ),
    Stop(title="And at any price: 'premium'.", prompt=MIDDLE, profile="premium"),
    Stop(
        title="A request with tools goes only where tools are known.",
        prompt="What is the weather in Oslo?",
        extra={"tools": [WEATHER_TOOL]},
    ),
)

EVERYDAY = (
    "What time is it in Tokyo?",
    "Translate 'good morning' into Spanish.",
    "Give me a synonym for happy.",
    "How many days has February?",
    "Who wrote Hamlet?",
    "Write a short birthday wish.",
    "What is 15 % of 80?",
    "Name three citrus fruits.",
    "Convert 10 miles to kilometres.",
    "Summarise: the meeting moved to Friday.",
)


class Tour:
    """Runs the stops against a gateway on a simulator."""

    def __init__(self, *, url: str, simulator_url: str, models: tuple[SimulatedModel, ...]) -> None:
        self._url = url
        self._simulator_url = simulator_url
        chat = [model for model in models if not model.embedding_dimensions]
        self._dearest = max(chat, key=lambda model: model.output_usd_per_mtok)
        self._spent = 0.0
        self._would_have = 0.0

    def run(self) -> None:
        """All stops, a failure, and the sum."""
        for number, stop in enumerate(STOPS, 1):
            click.secho(f"\n{number}. {stop.title}", bold=True)
            self._ask(stop)
        click.secho(f"\n{len(STOPS) + 1}. A provider that fails is replaced at once.", bold=True)
        self._failing(STOPS[0])
        number = len(STOPS) + 2
        click.secho(
            f"\n{number}. {len(EVERYDAY)} everyday requests, as most traffic is.", bold=True
        )
        self._everyday()
        saved = 1 - self._spent / self._would_have if self._would_have else 0.0
        click.secho(
            f"\nSpent ${self._spent:.6f}; always using {self._dearest.name} would have cost "
            f"${self._would_have:.6f}: {saved:.0%} saved.",
            bold=True,
        )

    def _ask(self, stop: Stop) -> str:
        """Send one request, tell what happened; the model that answered."""
        shown = stop.prompt if len(stop.prompt) < 90 else stop.prompt[:87] + "…"
        click.echo(f"   asked    {shown!r}" + (f"  profile={stop.profile}" if stop.profile else ""))
        head, cost, other = self._send(stop)
        model = head["x-routeiq-model"]
        click.echo(f"   chosen   {click.style(model, fg='green')}: {head['x-routeiq-reason']}")
        click.echo(
            f"   cost     ${cost:.6f} ({self._dearest.name}: ${other:.6f}); "
            f"gateway overhead {head['x-routeiq-overhead-ms']} ms, "
            f"{head['x-routeiq-attempts']} attempt(s)"
        )
        return model

    def _send(self, stop: Stop) -> tuple[dict[str, str], float, float]:
        """One request: the answer's headers, what it cost, what the dearest model would have cost."""
        body = {
            "model": "auto",
            "messages": [{"role": "user", "content": stop.prompt}],
            **(stop.extra or {}),
        }
        headers = {"x-routeiq-profile": stop.profile} if stop.profile else {}
        status, head, answer = post(f"{self._url}/v1/chat/completions", body, headers)
        if status != 200:
            raise click.ClickException(f"the gateway answered {status}: {answer.decode()}")
        usage = orjson.loads(answer)["usage"]
        cost = float(head["x-routeiq-cost-usd"])
        other = self._dearest.cost_usd(usage["prompt_tokens"], usage["completion_tokens"])
        self._spent += cost
        self._would_have += other
        return head, cost, other

    def _everyday(self) -> None:
        """Many small requests: who answered how many."""
        chosen = Counter(
            self._send(Stop(title="", prompt=prompt))[0]["x-routeiq-model"] for prompt in EVERYDAY
        )
        said = ", ".join(f"{name} {count}" for name, count in chosen.most_common())
        click.echo(f"   chosen   {click.style(said, fg='green')}")

    def _failing(self, stop: Stop) -> None:
        """Break the model that answers `stop`, ask again, mend it."""
        control = f"{self._simulator_url}/_simulator/behaviour"
        model = self._ask(stop)
        click.echo(f"   … now {model} answers 503 to everything …")
        post(control, {"model": model, "behaviour": "status=503"}, {})
        try:
            self._ask(stop)
        finally:
            mend = urllib.request.Request(control, method="DELETE")  # noqa: S310 - our simulator
            urllib.request.urlopen(mend, timeout=10).close()  # noqa: S310


def post(url: str, body: object, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    """POST JSON; status, lower-case headers, body. For the tour, which needs no client library."""
    request = urllib.request.Request(  # noqa: S310 - our own loopback address
        url, orjson.dumps(body), {"content-type": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            head = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status, head, answer.read()
    except urllib.error.HTTPError as error:
        head = {name.lower(): value for name, value in error.headers.items()}
        return error.code, head, error.read()
