"""`routeiq models`: the life of a learned strategy, from data to a certified, signed, active artifact."""

from __future__ import annotations

from collections.abc import Mapping

import click

from .main import LazyGroup

COMMANDS: Mapping[str, tuple[str, str]] = {
    "sample": (
        "routeiq.cli.models_sample:sample",
        "Training data of the simulator's models, to try things out.",
    ),
    "data": ("routeiq.cli.models_data:data", "Describe and check data: statistics, leakage."),
    "train": ("routeiq.cli.models_train:train", "Train a strategy on your data."),
    "evaluate": (
        "routeiq.cli.models_evaluate:evaluate",
        "Cost and quality on data it never saw, beside the baselines.",
    ),
    "compare": ("routeiq.cli.models_evaluate:compare", "Several strategies side by side."),
    "calibrate": (
        "routeiq.cli.models_evaluate:calibrate",
        "Find and certify an operating point.",
    ),
    "score": ("routeiq.cli.models_score:score", "Predicted quality per prompt and model."),
    "inspect": ("routeiq.cli.models_score:inspect", "Why this model for this prompt."),
    "card": ("routeiq.cli.models_evaluate:card", "The model card of an artifact."),
    "export": ("routeiq.cli.models_data:export_", "Data in the formats of other routers."),
    "embedder": (
        "routeiq.cli.models_embedder:embedder",
        "Make the ONNX files of MiniLM, for `--features onnx`.",
    ),
    "import": ("routeiq.cli.models_data:import_", "Data of other routers as plain JSON lines."),
    "verify": ("routeiq.cli.models_artifacts:verify", "Check an artifact, signature included."),
    "keygen": ("routeiq.cli.models_artifacts:keygen", "Make a key pair for signatures."),
    "sign": ("routeiq.cli.models_artifacts:sign", "Sign an artifact."),
    "list": ("routeiq.cli.models_artifacts:list_", "Staged versions and what is active."),
    "stage": ("routeiq.cli.models_artifacts:stage", "Verify and copy an artifact to the store."),
    "promote": ("routeiq.cli.models_artifacts:promote", "Make a staged version active."),
    "rollback": ("routeiq.cli.models_artifacts:rollback", "Go back to the version before."),
    "pull": ("routeiq.cli.models_artifacts:pull", "Fetch from a folder, S3 or GCS, and promote."),
}


class ModelsGroup(LazyGroup):
    """The commands above, imported when run."""

    table = COMMANDS


@click.group(cls=ModelsGroup)
def models() -> None:
    """Train, evaluate, certify and distribute learned strategies."""
