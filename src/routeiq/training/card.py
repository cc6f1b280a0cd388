"""The model card of an artifact: what it is, what it was trained on, how good it is, what it is not for.

The card is Markdown (after Mitchell et al. 2019), kept in the artifact as `card.md`, so that its hash is in the
manifest. What only a person can know (sources, licences, intended use, limits) is kept in the settings under
`card`, so that an update of the figures does not lose it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from routeiq.artifacts.artifact import Artifact, Draft
from routeiq.artifacts.manifest import MANIFEST, WEIGHTS, Manifest

CARD = "card.md"
FIELDS = ("sources", "licences", "intended_use", "limits", "contact")
"""What a person says about an artifact; each a list of lines."""
INTENDED = (
    "Choosing among the models below for requests like those it was trained on, inside RouteIQ.",
)
LIMITS = (
    "Predictions are about the kinds of prompts in the training data; for other traffic blend in the prior "
    "(`prior_weight: 0.5`) or train on your own.",
    "A score is a predicted probability of a good answer as the training data judged it, no promise for any one.",
    "Models change behind their names: evaluate again when a provider ships a new version.",
    "Not for decisions about people, and not a safety filter.",
)
UNKNOWN = ("Not stated.",)


def draft_of(artifact: Artifact) -> Draft:
    """The artifact as a draft again, so that a new version of it can be written."""
    manifest = artifact.manifest
    return Draft(
        strategy=manifest.strategy,
        features=manifest.features,
        models=manifest.models,
        arrays=artifact.arrays,
        settings=manifest.settings,
        metrics=manifest.metrics,
        data_sha256=manifest.data_sha256,
        files={
            name: artifact.read(name) for name in manifest.files if name not in (WEIGHTS, MANIFEST)
        },
        certificates=list(manifest.certificates),
    )


def with_card(draft: Draft, said: Mapping[str, Sequence[str]] | None = None) -> Draft:
    """The draft with its card written anew; `said` replaces the fields that it has, the others stay.

    Raises:
        ValueError: a field that a card does not have.
    """
    if unknown := sorted(set(said or {}) - set(FIELDS)):
        raise ValueError(f"a card has no field {unknown[0]!r}; it has {', '.join(FIELDS)}.")
    kept = dict(draft.settings.get("card", {}))
    kept |= {name: list(lines) for name, lines in (said or {}).items() if lines}
    settings = {**draft.settings, "card": kept}
    text = _text(draft, kept)
    return replace(draft, settings=settings, files={**draft.files, CARD: text.encode()})


def card_text(manifest: Manifest) -> str:
    """The card of a manifest, as it would be written now."""
    draft = Draft(
        strategy=manifest.strategy,
        features=manifest.features,
        models=manifest.models,
        arrays={},
        settings=manifest.settings,
        metrics=manifest.metrics,
        data_sha256=manifest.data_sha256,
        certificates=list(manifest.certificates),
    )
    return _text(draft, draft.settings.get("card", {}))


def _text(draft: Draft, said: Mapping[str, Sequence[str]]) -> str:
    lines = [
        f"# Model card: {draft.strategy} router",
        "",
        "Predicts, per request, how good each model's answer will be (RouteIQ artifact).",
        "",
        f"- Strategy: `{draft.strategy}`",
        f"- Features: `{draft.features}`",
        f"- Training data, SHA-256: `{draft.data_sha256 or 'not recorded'}`",
        f"- Models ({len(draft.models)}): {', '.join(f'`{_inline(m)}`' for m in draft.models)}",
        "",
        "## Intended use",
        *_list(said.get("intended_use") or INTENDED),
        "",
        "## Training data",
        *_list(said.get("sources") or UNKNOWN),
        "",
        "## Licences",
        *_list(said.get("licences") or UNKNOWN),
        "",
        "## Metrics",
        *_metrics(draft.metrics),
        "",
        "## Certificates",
        *_certificates(draft.certificates),
        "",
        "## Limits",
        *_list(said.get("limits") or LIMITS),
    ]
    if said.get("contact"):
        lines += ["", "## Contact", *_list(said["contact"])]
    return "\n".join(lines) + "\n"


def _list(lines: Sequence[str]) -> list[str]:
    return ["", *(f"- {' '.join(str(line).split())}" for line in lines)]


def _inline(name: str) -> str:
    return name.replace("`", "'")


def _metrics(metrics: Mapping[str, Any]) -> list[str]:
    rows = list(_flat(metrics))
    if not rows:
        return ["", "None recorded: run `routeiq models evaluate`."]
    return ["", "| figure | value |", "|---|---|", *(f"| {_cell(k)} | {v} |" for k, v in rows)]


def _flat(metrics: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in metrics.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found += _flat(value, f"{name}.")
        elif isinstance(value, bool | int | str):
            found.append((name, _cell(str(value))))
        elif isinstance(value, float):
            found.append((name, f"{value:.4g}"))
    return found


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _certificates(certificates: Sequence[Mapping[str, Any]]) -> list[str]:
    if not certificates:
        return ["", "None: run `routeiq models calibrate` on held-out data."]
    lines = [""]
    for one in certificates:
        saved = one.get("saved")
        weights = ", ".join(str(weight) for weight in one.get("cost_weights", ()))
        lines.append(
            f"- Not worse than `{_inline(str(one['reference']))}` by more than {float(one['epsilon']):g} with "
            f"confidence {1.0 - float(one['delta']):g}: margin {float(one['tau']):g}, {one.get('rows', '?')} "
            f"held-out rows, cost weights {weights or 'not recorded'}"
            + (f", {saved:.0%} of the cost saved there." if isinstance(saved, float) else ".")
        )
    return lines
