"""From the operator's `model_list` to deployments, and for those of the native lane to their upstreams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from urllib.parse import quote, urlsplit

from routeiq import __version__
from routeiq.config.model import Config, DeploymentConfig
from routeiq.config.section import Price
from routeiq.exceptions import ConnectFailed, Problem
from routeiq.ports import Header
from routeiq.types import Deployment, ModelFacts, Operation

from .dialects import DIALECTS, LITELLM_PROVIDERS, PATHS, Dialect
from .pricing import PriceTable
from .upstream import TokenFile, Upstream, Urls, header_value

AZURE_API_VERSION = "2025-02-01-preview"
"""Where neither the entry nor AZURE_API_VERSION says one: the same as LiteLLM's."""

_FIGURES = {
    "input_usd_per_token": "input_usd_per_mtok",
    "output_usd_per_token": "output_usd_per_mtok",
    "cached_input_usd_per_token": "cached_input_usd_per_mtok",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What the operator's entries come to. A deployment without an upstream cannot be called.

    `facts_for(provider, model)` is for the models that a wildcard stands for.
    """

    deployments: tuple[Deployment, ...]
    upstreams: Mapping[str, Upstream]
    problems: tuple[Problem, ...]
    facts_for: Callable[[str, str], ModelFacts]


def resolve(config: Config) -> Resolved:
    """Resolve every entry; all problems are collected, none is raised."""
    resolver = _Resolver(config)
    for entry in config.deployments:
        resolver.add(entry)
    return Resolved(
        deployments=tuple(resolver.deployments),
        upstreams=resolver.upstreams,
        problems=tuple(resolver.problems),
        facts_for=resolver.facts_for,
    )


def split_model(entry: DeploymentConfig, table: PriceTable) -> tuple[str | None, str]:
    """Provider and upstream model name, by LiteLLM's rules; no provider if nothing tells it.

    An explicit provider wins, then a known prefix, then the host of `api_base`, then what the price
    table knows a bare name by; any other name with an `api_base` is taken as OpenAI-compatible.
    """
    if entry.provider:
        return entry.provider, entry.model.removeprefix(f"{entry.provider}/")
    prefix, slash, rest = entry.model.partition("/")
    if slash and (prefix in DIALECTS or prefix in LITELLM_PROVIDERS):
        return prefix, rest
    host = _host(entry.api_base or "")
    for dialect in DIALECTS.values():
        if host and dialect.auth != "none" and host == _host(dialect.base_url or ""):
            return dialect.name, entry.model
    provider = table.provider_of(entry.model)
    return provider or ("custom_openai" if entry.api_base else None), entry.model


class _Resolver:
    def __init__(self, config: Config) -> None:
        self.deployments: list[Deployment] = []
        self.upstreams: dict[str, Upstream] = {}
        self.problems: list[Problem] = []
        self._config = config
        self._table = PriceTable.bundled()

    def facts_for(self, provider: str, model: str, *groups: str) -> ModelFacts:
        """`routeiq.prices` over the bundled table; `groups` are further names to look for."""
        facts = self._table.facts(provider, model)
        for name in (f"{provider}/{model}", model, *groups):
            price = self._config.routeiq.prices.get(name)
            if price is not None:
                return merge(facts, price_facts(price))
        return facts

    def add(self, entry: DeploymentConfig) -> None:
        provider, model = split_model(entry, self._table)
        native = provider in DIALECTS
        if provider is None or not (native or provider in LITELLM_PROVIDERS):
            named = f"provider {provider!r}" if provider else f"the provider of {entry.model!r}"
            fix = "Write provider/model, such as openai/gpt-4o, or set api_base for a server of your own."
            self._problem(entry, "model", f"{named} is not known.", fix)
            return
        looked_up = (entry.base_model or model).removeprefix(f"{provider}/")
        facts = merge(self.facts_for(provider, looked_up, entry.model, entry.group), entry.facts)
        self.deployments.append(
            Deployment(
                id=entry.id,
                group=entry.group,
                provider=provider,
                model=model,
                lane="native" if native else "litellm",
                facts=facts,
                weight=entry.weight,
                rpm=entry.rpm,
                tpm=entry.tpm,
                order=entry.order,
                tags=entry.tags,
                region=entry.region,
            )
        )
        if not native:
            text = "the LiteLLM lane is not built yet: this deployment is not served."
            self._problem(entry, "model", text, f"Provider {provider!r} needs it.", warning=True)
            return
        if "*" not in model and None in (facts.input_usd_per_token, facts.output_usd_per_token):
            name = f"{provider}/{model}"
            text = f"the price of {name!r} is not known: its requests have no cost in headers and reports."
            fix = f"Set routeiq.prices[{name!r}] (0 for a server of your own)."
            self._problem(entry, "model", text, fix, warning=True)
        upstream = self._upstream(entry, DIALECTS[provider], model)
        if upstream is not None:
            self.upstreams[entry.id] = upstream

    def _upstream(self, entry: DeploymentConfig, dialect: Dialect, model: str) -> Upstream | None:
        before = len(self.problems)
        token_file = self._token_file(entry, dialect)
        headers = self._headers(entry, dialect, authorised=token_file is not None)
        base = self._base_url(entry, dialect)
        if base is None or len(self.problems) > before:
            return None
        urls: Urls = {name: (base + PATHS[name], None) for name in dialect.operations}
        if dialect.azure:
            version = entry.api_version or self._environ("AZURE_API_VERSION") or AZURE_API_VERSION
            urls = azure_urls(base, version, model)
        nested = next(
            (path for path in entry.additional_drop_params if "." in path or "[" in path), None
        )
        if nested is not None:
            text = f"only whole fields can be dropped, not {nested!r}."
            self._problem(
                entry, "additional_drop_params", text, "Name a top-level field.", warning=True
            )
        every = self._config.router.drop_params
        return Upstream(
            dialect=dialect,
            urls=urls,
            headers=headers,
            token_file=token_file,
            params=entry.params,
            drops=entry.additional_drop_params,
            drop_params=every if entry.drop_params is None else entry.drop_params,
        )

    def _headers(
        self, entry: DeploymentConfig, dialect: Dialect, *, authorised: bool
    ) -> tuple[Header, ...]:
        wanted = {
            "content-type": "application/json",
            "accept-encoding": "identity",  # usage is read in passing, from plain bytes
            "user-agent": f"routeiq/{__version__}",
        }
        if entry.organization:
            wanted["openai-organization"] = entry.organization
        own = {name.lower(): value for name, value in entry.headers.items()}
        token = entry.azure_ad_token if dialect.azure else None
        key = entry.api_key or (None if token else self._environ(*dialect.key_variables))
        if dialect.azure and not key:
            token = token or self._environ("AZURE_AD_TOKEN")
        if authorised:
            pass  # by the token file
        elif key and dialect.auth == "api-key":
            wanted["api-key"] = key
        elif key or token:
            wanted["authorization"] = f"Bearer {(key or token or '').strip()}"
        elif dialect.auth != "none" and not own.keys() & {"authorization", "api-key"}:
            text = f"there is no API key for provider {dialect.name!r}."
            fix = f"Set api_key in the entry, or the variable {dialect.key_variables[0]}."
            self._problem(entry, "api_key", text, fix)
        headers = []
        for name, value in {**wanted, **own}.items():
            try:
                headers.append((header_value(name), header_value(value)))
            except ValueError as error:
                place = "api_key" if name in ("authorization", "api-key") else f"headers.{name}"
                self._problem(
                    entry, place, f"cannot be sent as a header: it {error}.", "Correct it."
                )
        return tuple(headers)

    def _token_file(self, entry: DeploymentConfig, dialect: Dialect) -> TokenFile | None:
        if not dialect.azure or not entry.azure_ad_token_file:
            return None
        token_file = TokenFile(entry.azure_ad_token_file)
        try:
            token_file.header()
        except ConnectFailed as error:
            text = f"the token in {entry.azure_ad_token_file!r} cannot be used: {error.__cause__}."
            self._problem(entry, "azure_ad_token_file", text, "Mount a file with one token in it.")
        return token_file

    def _base_url(self, entry: DeploymentConfig, dialect: Dialect) -> str | None:
        base = entry.api_base or self._environ(*dialect.base_variables) or dialect.base_url
        variables = " or ".join(dialect.base_variables)
        if base is None:
            text = f"provider {dialect.name!r} has no address of its own."
            self._problem(entry, "api_base", text, f"Set api_base in the entry, or {variables}.")
            return None
        base = base.strip()
        if "://" not in base and not entry.api_base:  # OLLAMA_HOST is often host:port only
            base = f"http://{base}"
        if not _host(base) or any(char in base for char in "?# @") or not base.isprintable():
            shown = base.split("?")[0].split("@")[-1]  # userinfo and queries may hold secrets
            text = f"{shown!r} is not an http or https URL without user information and query."
            self._problem(entry, "api_base", text, "Write it like https://host/v1.")
            return None
        base = base.rstrip("/")
        for path in PATHS.values():  # some write the whole address of an operation
            base = base.removesuffix(path)
        return base if base.endswith(dialect.base_suffix) else base + dialect.base_suffix

    def _environ(self, *names: str) -> str | None:
        return next(filter(None, map(self._config.environ.get, names)), None)

    def _problem(
        self, entry: DeploymentConfig, part: str, message: str, fix: str, *, warning: bool = False
    ) -> None:
        self.problems.append(
            Problem(
                key=f"{entry.key}.litellm_params.{part}",
                message=message,
                fix=fix,
                file=entry.file,
                severity="warning" if warning else "error",
            )
        )


def _host(url: str) -> str | None:
    """The host of an http or https URL that can be connected to."""
    try:
        parts = urlsplit(url)
        return parts.hostname if parts.scheme in ("http", "https") and parts.port != 0 else None
    except ValueError:  # a port that is no number, a bracket that is not closed
        return None


def price_facts(price: Price) -> ModelFacts:
    """The operator's figures, per token instead of per million."""
    per_token = {
        ours: value / 1e6
        for ours, theirs in _FIGURES.items()
        if (value := getattr(price, theirs)) is not None
    }
    return ModelFacts(
        **per_token,
        context_tokens=price.context_tokens,
        max_output_tokens=price.max_output_tokens,
        quality=price.quality,
        source="routeiq.prices",
    )


def merge(below: ModelFacts, above: ModelFacts) -> ModelFacts:
    """`above` where it knows something, else `below`; `source` names both where both contribute."""
    known = {
        one.name: value
        for one in fields(ModelFacts)
        if one.name != "source" and (value := getattr(above, one.name)) is not None
    }
    if not known:
        return below
    source = above.source if below.source == "unknown" else f"{above.source} over {below.source}"
    return replace(below, **known, source=source)


def azure_urls(base: str, version: str, model: str) -> Urls:
    """By deployment and version; by /openai/v1 where base or version says so, and for responses always."""
    root, _, deployed = base.partition("/openai/deployments/")
    newer = root.endswith("/openai/v1") or version in ("v1", "latest", "preview")
    root = root.removesuffix("/openai/v1").removesuffix("/openai")
    query = "?api-version=preview" if version == "preview" else ""
    urls: dict[Operation, tuple[str, str | None]] = {}
    for name, path in PATHS.items():
        head, tail = f"{root}/openai/deployments/", f"{path}?api-version={quote(version)}"
        if newer or name == "responses":
            urls[name] = (f"{root}/openai/v1{path}{query}", None)
        elif deployed or "*" not in model:
            urls[name] = (f"{head}{deployed or quote(model, safe='')}{tail}", None)
        else:
            urls[name] = (head, tail)
    return urls
