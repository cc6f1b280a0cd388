"""What learning is worth: `python -m bench.strategies --data FILE [FILE ...] --out FOLDER`.

Splits each labelled data set by a hash of the prompts, trains every strategy on 70 % of it, and measures on the
other 30 % what it would have chosen, beside the baselines. One JSON file and one plot for each set. What the file
has already is kept if the data, the seed and the split are the same, so that a run can be stopped and repeated;
`--again NAME` measures a strategy anew.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from routeiq.config.environment import one_blas_thread

KINDS = (
    "knn", "cluster", "svm", "logistic", "mlp", "mf", "irt", "elo", "linucb", "hybrid", "adaptive",
)  # fmt: skip


def main(given: Sequence[str] | None = None) -> None:
    """Measure, and write after each strategy."""
    arguments = list(sys.argv[1:] if given is None else given)
    options = parser().parse_args(arguments)
    one_blas_thread(os.environ)  # before NumPy is loaded
    from .strategy_report import read_result, summary, write_result
    from .strategy_sets import Measurement

    for file in options.data:
        measurement = Measurement(
            file, seed=options.seed, resamples=options.resamples, max_rows=options.max_rows
        )
        path = options.out / f"{measurement.name}.json"
        result = measurement.begin(read_result(path), command=shown(file))
        print(summary(result, "baselines"), flush=True)
        for kind in options.strategies:
            done = result["strategies"]
            if kind not in done or kind in options.again:
                done[kind] = measurement.strategy(kind)
                write_result(path, result)
            print(summary(result, kind), flush=True)
        if options.few and ("few" not in result or "few" in options.again):
            result["few"] = measurement.few(tuple(options.few))
        write_result(path, result)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="python -m bench.strategies", description=(__doc__ or "").partition("\n")[0]
    )
    found.add_argument("--data", nargs="+", type=Path, required=True, metavar="FILE")
    found.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    found.add_argument("--strategies", nargs="+", choices=KINDS, default=list(KINDS))
    found.add_argument("--again", nargs="+", default=[], metavar="NAME")
    found.add_argument("--few", nargs="*", type=int, default=[100, 200, 400, 1500], metavar="ROWS")
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--resamples", type=int, default=1000)
    found.add_argument("--max-rows", type=int)
    return found


def shown(file: Path) -> str:
    """The command that makes a set's figures, without the folders of whoever ran it."""
    return f"python -m bench.strategies --data {shlex.quote(file.name)} --out docs/reference/strategies"


if __name__ == "__main__":
    main()
