"""What the simulated models are: price, speed, window, capabilities, and how often they are right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import ClassVar

from routeiq.exceptions import ConfigError, Problem
from routeiq.types import Capability

_JUDGED_CHARACTERS = 4_000
_PUNCTUATION = str.maketrans(dict.fromkeys(".,;:!?\"'`()[]{}\n\t", " "))
_DOMAINS: Mapping[str, frozenset[str]] = {
    "code": frozenset(
        {"code", "function", "python", "rust", "sql", "bug", "regex", "class", "api"}
    ),
    "math": frozenset({"prove", "theorem", "integral", "equation", "sum", "probability", "solve"}),
    "writing": frozenset({"write", "poem", "story", "essay", "email", "translate", "summarize"}),
}
_HARD = frozenset(
    {"prove", "derive", "optimize", "concurrent", "distributed", "formal", "rigorous"}
)
_MEDIUM = frozenset({"explain", "compare", "why", "implement", "design", "analyze", "debug"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedModel:
    """One model of the simulator.

    `quality` maps `domain/difficulty`, `domain`, `difficulty` or `*` (the first that matches, in this
    order) to the share of right answers in [0, 1]; see `kind_of` for domains and difficulties. Prices
    are USD per million tokens. A model with `embedding_dimensions` serves embeddings and nothing else.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    name: str
    quality: Mapping[str, float] = field(default_factory=lambda: {"*": 0.8})
    input_usd_per_mtok: float = 0.0
    output_usd_per_mtok: float = 0.0
    time_to_first_token_s: float = 0.3
    tokens_per_second: float = 80.0
    context_tokens: int = 128_000
    capabilities: frozenset[Capability] = frozenset(Capability)
    output_tokens: int = 24
    reasoning_tokens: int = 0
    embedding_dimensions: int | None = None

    def is_right(self, text: str) -> bool:
        """Whether this model answers `text` well: the same for ever for the same pair.

        All models share one draw per text, so a model that is better at a kind of prompt is right
        wherever a worse one is.
        """
        domain, difficulty = kind_of(text)
        keys = (f"{domain}/{difficulty}", domain, difficulty, "*")
        share = next((self.quality[key] for key in keys if key in self.quality), 0.0)
        return draw(text) < share

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float:
        """Price of one answer."""
        spent = input_tokens * self.input_usd_per_mtok + output_tokens * self.output_usd_per_mtok
        return spent / 1e6


def kind_of(text: str) -> tuple[str, str]:
    """Domain (`code`, `math`, `writing`, `general`) and difficulty (`easy`, `medium`, `hard`) of a prompt.

    Told from its words and length, so that a router can learn it from the prompt too.
    """
    words = text[:_JUDGED_CHARACTERS].lower().translate(_PUNCTUATION).split()
    domain = next((d for d, known in _DOMAINS.items() if not known.isdisjoint(words)), "general")
    if len(words) > 120 or not _HARD.isdisjoint(words):
        return domain, "hard"
    return domain, "medium" if len(words) > 30 or not _MEDIUM.isdisjoint(words) else "easy"


def draw(text: str) -> float:
    """A number in [0, 1) that depends on `text` only."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) / 2**64


_BASIC = frozenset({Capability.JSON_OBJECT})
_USUAL = _BASIC | {Capability.TOOLS, Capability.PARALLEL_TOOLS, Capability.JSON_SCHEMA}
_SEES = _USUAL | {Capability.VISION}
_ALL_BUT_REASONING = frozenset(Capability) - {Capability.REASONING}
_THINKS = _USUAL | {Capability.REASONING}


def _chat(
    name: str,
    quality: tuple[float, float, float],
    usd: tuple[float, float],
    speed: tuple[float, float],
    context_tokens: int,
    capabilities: frozenset[Capability],
    reasoning_tokens: int = 0,
    **special: float,
) -> SimulatedModel:
    return SimulatedModel(
        name=name,
        quality={**dict(zip(("easy", "medium", "hard"), quality, strict=True)), **special},
        input_usd_per_mtok=usd[0],
        output_usd_per_mtok=usd[1],
        time_to_first_token_s=speed[0],
        tokens_per_second=speed[1],
        context_tokens=context_tokens,
        capabilities=capabilities,
        reasoning_tokens=reasoning_tokens,
    )


CATALOGUE: tuple[SimulatedModel, ...] = (
    _chat("sim-nano", (0.85, 0.45, 0.15), (0.05, 0.2), (0.12, 220), 8_192, _BASIC, math=0.3),
    _chat("sim-small", (0.95, 0.7, 0.35), (0.15, 0.6), (0.2, 140), 128_000, _USUAL),
    _chat("sim-medium", (0.97, 0.88, 0.6), (0.8, 3.2), (0.35, 90), 128_000, _SEES, writing=0.96),
    _chat("sim-large", (0.99, 0.95, 0.82), (3, 15), (0.6, 55), 200_000, _ALL_BUT_REASONING),
    _chat(
        "sim-reasoner", (0.98, 0.95, 0.93), (5, 20), (3.0, 70), 200_000, _THINKS, 128, writing=0.85
    ),
    SimulatedModel(
        name="sim-embed",
        input_usd_per_mtok=0.02,
        time_to_first_token_s=0.05,
        context_tokens=8_192,
        capabilities=frozenset(),
        embedding_dimensions=384,
    ),
)


def load_models(path: Path) -> tuple[SimulatedModel, ...]:
    """The models in a YAML or JSON file: a list of mappings with the fields of `SimulatedModel`.

    Raises:
        ConfigError: the file cannot be read, or a model in it is not valid.
    """
    import yaml  # here, because the catalogue needs neither
    from pydantic import TypeAdapter, ValidationError

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TypeAdapter(tuple[SimulatedModel, ...]).validate_python(found)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _bad(path, f"cannot be read: {error}.") from error
    except ValidationError as error:
        raise _bad(path, f"does not list models: {error}.") from error


def _bad(path: Path, message: str) -> ConfigError:
    fix = "Give a YAML or JSON list; the fields are those of routeiq.simulator.SimulatedModel."
    return ConfigError([Problem(file=str(path), key="models", message=message, fix=fix)])
