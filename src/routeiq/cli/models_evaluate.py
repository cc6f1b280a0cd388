"""`routeiq models evaluate | compare | calibrate | card`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .signing import note_unsigned, signer_of, signing_options
from .writing import write_json, write_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from routeiq.training.certificate import Certificate
    from routeiq.training.evaluation.report import Settings
    from routeiq.training.table import Table

FILE = click.Path(exists=True, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
NEW_FILE = click.Path(dir_okay=False, path_type=Path)
NEW_FOLDER = click.Path(file_okay=False, path_type=Path)
SHARE = click.FloatRange(0.0, 1.0, min_open=True, max_open=True)

data_option = click.option(
    "--data",
    "data",
    type=FILE,
    multiple=True,
    required=True,
    help="Held-out data; may be repeated.",
)
json_option = click.option("--json", "json_file", type=NEW_FILE, help="Write the report as JSON.")
html_option = click.option(
    "--html", "html_file", type=NEW_FILE, help="Write the report as one HTML page."
)
plots_option = click.option("--plots", type=NEW_FOLDER, help="Write the plots as SVG and PNG.")
reference_option = click.option(
    "--reference", help="Model to compare with; by default the best single one on this data."
)
pair_option = click.option(
    "--pair", nargs=2, metavar="STRONG WEAK", help="Report APGR and CPT for these two models."
)
resamples_option = click.option(
    "--resamples",
    default=2000,
    show_default=True,
    type=click.IntRange(0),
    help="Bootstrap resamples for the intervals.",
)
seed_option = click.option("--seed", default=0, show_default=True, help="Seed of all randomness.")
litellm_option = click.option(
    "--litellm/--no-litellm",
    default=True,
    show_default=True,
    help="Show LiteLLM's complexity router beside, if it is installed.",
)


@click.command()
@click.option("--artifact", type=FOLDER, help="Folder of a trained artifact.")
@click.option("--strategy", help="A strategy that needs no artifact, such as prior.")
@data_option
@json_option
@html_option
@plots_option
@reference_option
@pair_option
@resamples_option
@seed_option
@litellm_option
def evaluate(
    artifact: Path | None,
    strategy: str | None,
    data: tuple[Path, ...],
    json_file: Path | None,
    html_file: Path | None,
    plots: Path | None,
    **options: Any,
) -> None:
    """Measure a strategy on data with known outcomes, beside the baselines.

    The data must not have been used for training; what each figure means is in docs/reference/evaluation.md.
    """
    from routeiq.training.evaluation import outcomes, report, tables
    from routeiq.training.scoring import open_scorer, prior_scores

    scorer = open_scorer(artifact, strategy)
    table = _table(data)
    name = scorer.name if scorer.name != "prior" else "prior (evaluated)"
    found = report.evaluate(
        {name: _float(scorer.scores(table))},
        outcomes.from_table(table),
        _settings(options),
        prior=_float(prior_scores(table)),
        data_sha256=table.digest,
    )
    _warn_training_data(artifact, table)
    click.echo(tables.report_text(found))
    if json_file is not None:
        write_json(json_file, found.as_json())
    if html_file is not None:
        from routeiq.training.evaluation.html import report_html

        write_text(html_file, report_html(found, title=f"Evaluation of {name}"))
    if plots is not None:
        from routeiq.training.evaluation.plots import write_plots

        write_plots(found, plots)


@click.command()
@click.argument("candidates", nargs=-1, required=True, metavar="A B...")
@data_option
@json_option
@html_option
@plots_option
@reference_option
@pair_option
@resamples_option
@seed_option
@litellm_option
def compare(
    candidates: tuple[str, ...],
    data: tuple[Path, ...],
    json_file: Path | None,
    html_file: Path | None,
    plots: Path | None,
    **options: Any,
) -> None:
    """Compare artifacts (folders) or strategies (names) on the same rows, with paired intervals.

    Differences are to the first one.
    """
    from routeiq.training.evaluation import compare as comparing
    from routeiq.training.evaluation import outcomes, tables
    from routeiq.training.scoring import open_scorer, prior_scores

    table = _table(data)
    strategies: dict[str, Any] = {}
    for given in candidates:
        folder = Path(given)
        scorer = open_scorer(folder, None) if folder.is_dir() else open_scorer(None, given)
        name = given if not folder.is_dir() else f"{scorer.name} ({folder.name})"
        if name == "prior":
            name = "prior (evaluated)"
        if name in strategies:
            name = f"{name} #{len(strategies) + 1}"
        strategies[name] = _float(scorer.scores(table))
    found = comparing.compare(
        strategies,
        outcomes.from_table(table),
        _settings(options),
        prior=_float(prior_scores(table)),
        data_sha256=table.digest,
    )
    click.echo(tables.comparison_text(found))
    if json_file is not None:
        write_json(json_file, found.as_json())
    if html_file is not None:
        from routeiq.training.evaluation.html import comparison_html

        write_text(html_file, comparison_html(found))
    if plots is not None:
        from routeiq.training.evaluation.plots import write_plots

        write_plots(found.report, plots)


@click.command()
@click.option("--artifact", type=FOLDER, help="Folder of a trained artifact.")
@click.option("--strategy", help="With --strong-share: a strategy that needs no artifact: prior.")
@data_option
@click.option("--reference", help="The model that must not be missed by more.")
@click.option(
    "--epsilon", default=0.01, show_default=True, type=SHARE, help="Largest loss of mean quality."
)
@click.option(
    "--delta", default=0.1, show_default=True, type=SHARE, help="How likely it may be more."
)
@click.option(
    "--cost-weight",
    "cost_weights",
    multiple=True,
    type=click.FloatRange(0.0),
    help="Certify for this cost_weight (of the profile) only, which allows more; may be repeated. By default "
    "the certificate holds for any.",
)
@click.option(
    "--strong-share",
    type=click.FloatRange(0.0, 1.0),
    help="Certify nothing; print the `threshold` that sends this share to --strong.",
)
@click.option("--strong", help="With --strong-share: name of the strong model.")
@click.option("--weak", help="With --strong-share: name of the weak model.")
@click.option("--out", type=NEW_FOLDER, help="Folder of the new version; by default in place.")
@signing_options
@seed_option
def calibrate(
    artifact: Path | None,
    strategy: str | None,
    data: tuple[Path, ...],
    reference: str | None,
    strong_share: float | None,
    strong: str | None,
    weak: str | None,
    **options: Any,
) -> None:
    """Find and certify how far an artifact may switch away from a model, on held-out data.

    Writes a new version of the artifact whose manifest has the certificate. The data must not have been used
    for training. Choose epsilon, delta and the cost weight before you look: a promise picked afterwards is none.

    With --strong-share, --strong and --weak it prints the threshold of strategy `threshold` instead, and writes
    nothing.
    """
    if strong_share is not None:
        if strong is None or weak is None or reference is not None:
            raise click.UsageError("--strong-share takes --strong and --weak, and no --reference.")
        _print_threshold(artifact, strategy, data, strong_share, (strong, weak))
    elif artifact is None or reference is None or strategy or strong or weak:
        raise click.UsageError(
            "give --artifact and --reference, or --strong-share with --strong and --weak."
        )
    else:
        _certify(artifact, data, reference, options)


def _print_threshold(
    artifact: Path | None,
    strategy: str | None,
    data: tuple[Path, ...],
    share: float,
    pair: tuple[str, str],
) -> None:
    from routeiq.training import strong_share
    from routeiq.training.scoring import open_scorer

    scorer = open_scorer(artifact, strategy)
    strong, weak = pair
    found = strong_share.calibrate(scorer, _table(data), strong=strong, weak=weak, share=share)
    told = {"strong": strong, "weak": weak, "threshold": found.threshold, "using": scorer.name}
    if artifact is not None:
        told["artifact"] = str(artifact.absolute())
    click.echo(f"threshold {found.threshold!r}: {found.share:.1%} of {found.rows} rows to {strong}")
    click.echo(f"strategy:\n  name: threshold\n  options: {json.dumps(told)}")
    if artifact is None:
        click.echo(
            "note: in the gateway the prior also knows the models' prices and declared qualities, so that the "
            "share may differ: `strong_share` keeps it by itself.",
            err=True,
        )


def _certify(
    artifact: Path, data: tuple[Path, ...], reference: str, options: dict[str, Any]
) -> None:
    from routeiq.artifacts.artifact import open_artifact, write_artifact
    from routeiq.training.card import draft_of, with_card
    from routeiq.training.certificate import COST_WEIGHTS, certify
    from routeiq.training.evaluation.outcomes import from_table
    from routeiq.training.scoring import open_scorer

    signer = signer_of(options["private_key"], options["hmac_key"])
    epsilon, delta, out = options["epsilon"], options["delta"], options["out"] or artifact
    opened = open_artifact(artifact)
    table = _table(data)
    if table.digest and table.digest == opened.manifest.data_sha256:
        raise click.UsageError(
            "this is the data that the artifact was trained on: a certificate needs rows it never saw."
        )
    certificate = certify(
        _float(open_scorer(artifact, None).scores(table)),
        from_table(table),
        reference,
        epsilon=epsilon,
        delta=delta,
        cost_weights=tuple(sorted(options["cost_weights"])) or COST_WEIGHTS,
        seed=options["seed"],
        data_sha256=table.digest,
    )
    if certificate is None:
        raise click.ClickException(
            f"nothing can be certified against {reference} at epsilon {epsilon:g} and delta {delta:g} with "
            f"{len(table)} rows: give more rows, or a larger epsilon."
        )
    draft = draft_of(opened)
    kept = [one for one in draft.certificates if not _same_promise(one, certificate)]
    draft = with_card(replace(draft, certificates=[*kept, certificate.as_json()]))
    manifest = write_artifact(out, draft, signer=signer)
    click.echo(_certified(certificate))
    note_unsigned(opened, signer)
    click.echo(f"version {manifest.version} in {out}")


@click.command()
@click.option("--artifact", type=FOLDER, required=True, help="Folder of a trained artifact.")
@click.option("--source", "sources", multiple=True, help="A source of the training data.")
@click.option("--licence", "licences", multiple=True, help="A licence of the training data.")
@click.option("--intended-use", multiple=True, help="What it is for.")
@click.option("--limit", "limits", multiple=True, help="What it is not for, or known to be bad at.")
@click.option("--contact", multiple=True, help="Whom to ask.")
@click.option(
    "--metrics", type=FILE, help="JSON report of `routeiq models evaluate`, whose figures to note."
)
@click.option("--out", type=NEW_FOLDER, help="Folder of the new version; by default in place.")
@signing_options
def card(
    artifact: Path,
    out: Path | None,
    metrics: Path | None,
    private_key: str | None,
    hmac_key: str | None,
    **said: tuple[str, ...],
) -> None:
    """Print the model card of an artifact; with any other option, write it into a new version first."""
    from routeiq.artifacts.artifact import open_artifact, write_artifact
    from routeiq.training.card import card_text, draft_of, with_card

    signer = signer_of(private_key, hmac_key)
    opened = open_artifact(artifact)
    if not any(said.values()) and metrics is None and out is None and signer is None:
        click.echo(card_text(opened.manifest), nl=False)
        return
    draft = draft_of(opened)
    if metrics is not None:
        draft = replace(draft, metrics={**draft.metrics, "evaluation": _figures(metrics)})
    manifest = write_artifact(out or artifact, with_card(draft, said), signer=signer)
    click.echo(card_text(manifest), nl=False)
    note_unsigned(opened, signer)


def _table(data: tuple[Path, ...]) -> Table:
    from routeiq.training.build import build_table
    from routeiq.training.reading import read

    return build_table(read(list(data), allow_evaluation_only=True), keep_texts=True)


def _float(scores: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return scores.astype("float64")


def _settings(options: dict[str, Any]) -> Settings:
    from routeiq.training.evaluation.report import Settings

    return Settings(
        reference=options["reference"],
        pair=options["pair"] or None,
        resamples=options["resamples"],
        seed=options["seed"],
        litellm=options["litellm"],
    )


def _warn_training_data(artifact: Path | None, table: Table) -> None:
    if artifact is None or not table.digest:
        return
    from routeiq.artifacts.artifact import open_artifact

    if open_artifact(artifact).manifest.data_sha256 == table.digest:
        click.echo(
            "warning: the artifact was trained on these very rows: the figures flatter it.",
            err=True,
        )


def _same_promise(one: dict[str, Any], other: Certificate) -> bool:
    keys = ("reference", "epsilon", "delta", "cost_weights")
    new = other.as_json()
    return all(one.get(key) == new[key] for key in keys)


def _certified(found: Certificate) -> str:
    saved = "" if found.saved is None else f", saves {found.saved:.0%} of its cost"
    return (
        f"certified: not worse than {found.reference} by more than {found.epsilon:g} with confidence "
        f"{1.0 - found.delta:g}; margin {found.tau:g}; on {found.rows} held-out rows the largest cost "
        f"weight leaves it for {found.switched:.0%} of the requests{saved}; mean loss {found.loss:+.4f}, "
        f"upper bound {found.bound:.4f}."
    )


def _figures(path: Path) -> dict[str, Any]:
    """The figures of the first strategy in a JSON report, those that are known."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        entry = next(each for each in report["entries"] if each["kind"] == "strategy")
        figures = {name: value for name, value in entry["metrics"].items() if value is not None}
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise click.UsageError(
            f"{path} is not a report of `routeiq models evaluate --json`."
        ) from error
    return {"rows": report["rows"], "data_sha256": report.get("data_sha256", ""), **figures}
