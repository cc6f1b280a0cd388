"""Build `src/routeiq/providers/data/models.json`: prices, windows and capabilities, figures only.

The source is the price map inside LiteLLM's wheel on PyPI (docs/adr/0006-prices.md). Run
`python scripts/build_model_table.py [--version 1.106.2] [--source FILE]`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "src/routeiq/providers/data/models.json"
MAP_NAME = "litellm/model_prices_and_context_window_backup.json"
MODES = ("chat", "completion", "embedding", "responses")
# Bit positions are part of the file's layout: append only. The names are routeiq.types.Capability's.
FLAGS = {
    "supports_function_calling": "tools",
    "supports_parallel_function_calling": "parallel_tools",
    "supports_vision": "vision",
    "supports_audio_input": "audio_input",
    "supports_audio_output": "audio_output",
    "supports_pdf_input": "pdf",
    "json_object": "json_object",
    "supports_response_schema": "json_schema",
    "supports_reasoning": "reasoning",
}
LOCAL = frozenset({"ollama", "lemonade"})
FAMILIES = {"bedrock_converse": "bedrock", "fireworks_ai-embedding-models": "fireworks_ai"}


def provider_of(entry: Mapping[str, Any]) -> str:
    """The provider's routing name: Vertex' families and Bedrock's APIs are one provider each."""
    name = str(entry["litellm_provider"])
    return "vertex_ai" if name.startswith("vertex_ai-") else FAMILIES.get(name, name)


def per_million(entry: Mapping[str, Any], key: str) -> float | None:
    """USD per million tokens; the map has it per token."""
    value = entry.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        return None
    return float(f"{value * 1e6:.9g}")


def free(entry: Mapping[str, Any]) -> bool:
    """Zero is believed where nothing is billed; elsewhere the map means that it does not know."""
    return provider_of(entry) in LOCAL


def whole(value: Any) -> int | None:
    """A positive number of tokens, else unknown."""
    return int(value) if isinstance(value, int | float) and value >= 1 else None


def capabilities(entry: Mapping[str, Any]) -> int | None:
    """Bits in the order of `FLAGS`; `None` where the map says nothing at all."""
    if not any(key.startswith("supports_") for key in entry):
        return None
    bits = 0
    for bit, flag in enumerate(FLAGS):
        bits |= (entry.get(flag) is True) << bit
    tools, schema = bits & 1, bits & 1 << list(FLAGS).index("supports_response_schema")
    if tools or schema:  # the map has no flag for the older JSON mode, which both imply in practice
        bits |= 1 << list(FLAGS).index("json_object")
    if tools and entry.get("supports_parallel_function_calling") is None:
        bits |= 2  # rarely stated, nearly always true
    return bits


def row(entry: Mapping[str, Any]) -> list[Any]:
    """One model: mode, input, output, cached input (USD per million), context, longest answer, bits."""
    prices = [
        per_million(entry, "input_cost_per_token"),
        per_million(entry, "output_cost_per_token"),
        per_million(entry, "cache_read_input_token_cost"),
    ]
    mode = entry["mode"]
    if not free(entry):
        known = prices[1] if mode == "embedding" and prices[0] else prices[1] or None
        prices = [prices[0] or None, known, prices[2] or None]
    context = whole(entry.get("max_input_tokens")) or whole(entry.get("max_tokens"))
    longest = whole(entry.get("max_output_tokens")) if mode != "embedding" else None
    values = [MODES.index(mode), *prices, context, longest, capabilities(entry)]
    values = [int(v) if isinstance(v, float) and v.is_integer() else v for v in values]
    while values[-1] is None:
        values.pop()
    return values


def build(source: Mapping[str, Any], version: str, today: str) -> dict[str, Any]:
    """The table: provider to model (without the provider's prefix) to row."""
    providers: dict[str, dict[str, list[Any]]] = {}
    for key in sorted(source):
        entry = source[key]
        if (
            key == "sample_spec"
            or entry.get("mode") not in MODES
            or "litellm_provider" not in entry
        ):
            continue
        provider = provider_of(entry)
        name = key.removeprefix(f"{entry['litellm_provider']}/").removeprefix(f"{provider}/")
        providers.setdefault(provider, {})[name] = row(entry)
    return {
        "source": f"litellm {version}",
        "date": today,
        "modes": list(MODES),
        "capabilities": list(FLAGS.values()),
        "models": providers,
    }


def read_wheel(version: str) -> dict[str, Any]:
    """The map out of the wheel, downloaded with pip into a folder that is removed again."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            folder,
        ]
        subprocess.run([*command, f"litellm=={version}"], check=True)
        with zipfile.ZipFile(next(Path(folder).glob("litellm-*.whl"))) as wheel:
            content: dict[str, Any] = json.loads(wheel.read(MAP_NAME))
    return content


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", default="1.106.2", help="LiteLLM's version on PyPI")
    parser.add_argument("--source", type=Path, help="a price map that is already here")
    options = parser.parse_args()
    source = (
        json.loads(options.source.read_text()) if options.source else read_wheel(options.version)
    )
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    table = build(source, options.version, today)
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=True)
    # One provider per line keeps a later diff readable.
    TARGET.write_text(text.replace('"models":{', '"models":{\n').replace("]},", "]},\n") + "\n")
    count = sum(map(len, table["models"].values()))
    print(f"{TARGET.name}: {count} models, {TARGET.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
