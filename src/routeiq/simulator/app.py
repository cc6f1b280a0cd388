"""What is answered to which request: routes, models, steering, and the simulator's own admin routes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote

import orjson

from routeiq.ports import Clock
from routeiq.types import JsonObject, Operation

from . import replies
from .answers import answer, embeddings
from .behaviour import PLAIN, Behaviour, mended, parse
from .errors import ApiError
from .models import SimulatedModel
from .prompt import Prompt, read_prompt
from .record import ReceivedRequest, RequestLog
from .replies import Reply, json_reply

_OPERATIONS: Mapping[str, Operation] = {
    "chat/completions": "chat",
    "completions": "completions",
    "embeddings": "embeddings",
    "responses": "responses",
}
_PREFIXES = ("/", "/v1/", "/openai/", "/openai/v1/")
_ROUTES = {prefix + path: name for prefix in _PREFIXES for path, name in _OPERATIONS.items()}
_DEPLOYMENTS = "/openai/deployments/"
_FORMS: Mapping[
    Operation, tuple[Callable[..., JsonObject], Callable[..., tuple[list[bytes], int]]]
] = {
    "chat": (replies.chat, replies.chat_stream),
    "completions": (replies.completion, replies.completion_stream),
    "responses": (replies.response, replies.response_stream),
}


class App:
    """The state of one simulator: models, rules, what was received, and counters."""

    def __init__(self, models: Sequence[SimulatedModel], latency: float, clock: Clock) -> None:
        self.models = {model.name: model for model in models}
        self.latency = latency
        self.clock = clock
        self.log = RequestLog()
        self.rules: dict[str, str] = {}
        self.connections: set[asyncio.Transport] = set()
        self.in_flight = 0
        self._number = 0
        self.reset()

    def reset(self) -> None:
        """Forget rules, requests and counters; models and connections stay."""
        self.log.clear()
        self.rules.clear()
        self.max_in_flight = self.in_flight
        self.failed: Counter[str] = Counter()
        self.served: dict[str, dict[str, float]] = {}

    def behave(self, behaviour: str, model: str = "*") -> None:
        """Steer every request for models that match the glob `model`, until `mend`."""
        parse(behaviour)  # a mistake is told here, not to the next request
        self.rules[model] = behaviour

    def mend(self, model: str | None = None) -> None:
        """Undo `behave` for this glob, or for all."""
        if model is None:
            self.rules.clear()
        else:
            self.rules.pop(model, None)

    def answer(self, request: ReceivedRequest) -> tuple[Reply, Behaviour]:
        """The reply to `request`, and what is to go wrong while it is sent."""
        self._number += 1
        path = request.path.partition("?")[0]
        try:
            if path.startswith("/_simulator/"):
                return self._admin(request, path), PLAIN
            self.log.add(request)
            operation, deployment = _route(path)
            if operation is None:
                behaviour = self._behaviour(request, "", "")
                return _broken(behaviour) or self._listing(request, path), behaviour
            if request.method != "POST":
                raise ApiError(405, f"Not allowed to {request.method} on {path}.")
            return self._operation(operation, request, deployment)
        except ApiError as error:
            return replies.error_reply(error, self._ids()), PLAIN

    def _ids(self) -> str:
        return f"x-request-id: req_{self._number}\r\n"

    def _operation(
        self, operation: Operation, request: ReceivedRequest, deployment: str
    ) -> tuple[Reply, Behaviour]:
        body = _parsed(request.body)
        asked = body.get("model") or deployment
        if not isinstance(asked, str) or not asked:
            raise ApiError(400, "You must provide a model parameter.", param="model")
        name, _, suffix = (deployment or asked).partition("#")
        behaviour = self._behaviour(request, name, suffix or asked.partition("#")[2])
        broken = _broken(behaviour)
        if broken is not None:
            broken.headers += self._ids()
            return broken, behaviour
        try:
            return self._reply(operation, name, body, behaviour), behaviour
        except ApiError as error:
            return replies.error_reply(error, self._ids()), behaviour

    def _behaviour(self, request: ReceivedRequest, name: str, suffix: str) -> Behaviour:
        texts = [rule for glob, rule in self.rules.items() if fnmatchcase(name, glob)]
        texts.append(suffix)
        texts += [
            v.decode("latin-1") for k, v in request.raw_headers if k.lower() == b"x-simulator"
        ]
        if texts == [""]:
            return PLAIN
        behaviour = parse(*texts)
        if behaviour.fail_first:
            key = behaviour.key or name
            self.failed[key] += 1
            if self.failed[key] > behaviour.fail_first:
                return mended(behaviour)
        return behaviour

    def _reply(self, operation: Operation, name: str, body: JsonObject, steer: Behaviour) -> Reply:
        model = self.models.get(name)
        if model is None:
            raise _no_such_model(name)
        if (model.embedding_dimensions is None) == (operation == "embeddings"):
            raise ApiError(400, f"Model {name!r} does not serve {operation}.", param="model")
        prompt = read_prompt(operation, body, model)
        if operation == "embeddings":
            return self._embeddings(model, prompt, body, steer)
        created = int(self.clock.wall())
        found = answer(model, prompt, steer, number=self._number, created=created)
        headers = self._count(model, found.input_tokens, found.output_tokens, found.right)
        first, rest = 0.0, None
        if self.latency:
            first = model.time_to_first_token_s * self.latency
            rest = found.output_tokens / model.tokens_per_second * self.latency
        first = first if steer.ttft_ms is None else steer.ttft_ms / 1000
        plain, streamed = _FORMS[operation]
        if not prompt.stream:
            reply = json_reply(200, plain(found), headers)
            reply.wait_s = first + (rest or 0.0)
            return reply
        events, lead = streamed(found, include_usage=prompt.include_usage)
        paced = len(found.pieces)
        gap = None if rest is None else rest / paced
        return Reply(
            200,
            events,
            "text/event-stream; charset=utf-8",
            headers,
            stream=True,
            lead=lead,
            paced=paced,
            first_s=first,
            gap_s=gap if steer.chunk_ms is None else steer.chunk_ms / 1000,
        )

    def _embeddings(
        self, model: SimulatedModel, prompt: Prompt, body: JsonObject, steer: Behaviour
    ) -> Reply:
        tokens = prompt.input_tokens
        found: JsonObject = {"object": "list", "data": embeddings(model, body), "model": model.name}
        if not steer.no_usage:
            found["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
        reply = json_reply(200, found, self._count(model, tokens, 0, True))
        reply.wait_s = model.time_to_first_token_s * self.latency
        return reply

    def _count(self, model: SimulatedModel, tokens_in: int, tokens_out: int, right: bool) -> str:
        cost = model.cost_usd(tokens_in, tokens_out)
        served = self.served.setdefault(model.name, {"answers": 0, "right": 0, "cost_usd": 0.0})
        served["answers"] += 1
        served["right"] += right
        served["cost_usd"] += cost
        quality = f"x-simulator-quality: {right:d}\r\nx-simulator-cost-usd: {cost:.9f}\r\n"
        return quality + self._ids()

    def _listing(self, request: ReceivedRequest, path: str) -> Reply:
        path = path.removeprefix("/openai").removeprefix("/v1")
        if request.method not in ("GET", "HEAD") or not path.startswith("/models"):
            raise ApiError(404, f"Invalid URL ({request.method} {request.path})")
        entries: dict[str, JsonObject] = {
            name: {"id": name, "object": "model", "created": 0, "owned_by": "simulator"}
            for name in self.models
        }
        if path == "/models":
            return json_reply(200, {"object": "list", "data": [*entries.values()]}, self._ids())
        name = unquote(path.removeprefix("/models/"))
        if name not in entries:
            raise _no_such_model(name)
        return json_reply(200, entries[name], self._ids())

    def _admin(self, request: ReceivedRequest, path: str) -> Reply:
        match request.method, path.removeprefix("/_simulator/"):
            case "GET", "requests":
                return json_reply(200, [received.as_dict() for received in self.log.all()])
            case "DELETE", "requests":
                self.log.clear()
            case "DELETE", "state":
                self.reset()
            case "POST", "behaviour":
                body = _parsed(request.body)
                self.behave(str(body.get("behaviour", "")), str(body.get("model", "*")))
            case "DELETE", "behaviour":
                model = _parsed(request.body).get("model") if request.body else None
                self.mend(None if model is None else str(model))
            case "GET", "stats":
                return json_reply(200, self.stats())
            case _:
                raise ApiError(404, f"Invalid URL ({request.method} {request.path})")
        return json_reply(200, {"behaviours": self.rules})

    def stats(self) -> JsonObject:
        """Counts since the last reset; `max_in_flight` is the most requests there were at once."""
        return {
            "models": self.served,
            "open_connections": len(self.connections),
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
        }


def _no_such_model(name: str) -> ApiError:
    message = f"The model `{name}` does not exist or you do not have access to it."
    return ApiError(404, message, code="model_not_found")


def _route(path: str) -> tuple[Operation | None, str]:
    if path.startswith(_DEPLOYMENTS):
        name, _, rest = path.removeprefix(_DEPLOYMENTS).partition("/")
        return _OPERATIONS.get(rest), unquote(name)
    return _ROUTES.get(path), ""


def _parsed(raw: bytes) -> JsonObject:
    try:
        body: Any = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"We could not parse the JSON body of your request: {error}") from None
    if not isinstance(body, dict):
        raise ApiError(400, "The JSON body of your request must be an object.")
    return body


def _broken(steer: Behaviour) -> Reply | None:
    """The reply where steering leaves no room for an answer."""
    if steer.html:
        page = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
        return Reply(steer.status or 200, [page], "text/html; charset=utf-8")
    if steer.status is not None and steer.status >= 400:
        wait = "" if steer.retry_after is None else f"retry-after: {steer.retry_after:g}\r\n"
        return replies.error_reply(ApiError(steer.status), wait)
    if steer.content_filter == 400:
        message = "Your request was rejected as a result of our safety system."
        return replies.error_reply(ApiError(400, message, code="content_policy_violation"))
    return None
