"""Score the folds of a recipe on their held-out studies, and write tables and plots.

``python -m napari_srast.training.scoring RECIPE.toml -o FOLDER`` trains the missing networks of the recipe's folds,
scores each on its held-out studies, and writes scores.json, tables and plots. If the source is a scores.json from a
training's work folder, nothing is trained or scored: only the tables and plots are written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_srast.errors import InputError, SrastError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m napari_srast.training.scoring", description=__doc__)
    parser.add_argument("source", type=Path, help="the recipe, a .toml file, or the scores.json of its work folder")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for scores.json, tables and plots")
    options = parser.parse_args(arguments)
    from napari_srast.training.cross_validation import write_scores

    try:
        rows = _read_rows(options.source) if options.source.suffix == ".json" else _score_recipe(options.source)
        written = write_scores(rows, options.out)
    except SrastError as error:
        sys.stderr.write(f"\n{error}\n")
        return 2
    sys.stderr.write("\n")
    sys.stdout.write("\n".join(str(path) for path in written) + "\n")
    return 0


def _score_recipe(path: Path) -> list[dict[str, Any]]:
    """Train the missing folds of a recipe and score all of them."""
    from napari_srast._utils.threads import single_threaded_torch
    from napari_srast.core.progress import Progress, RunMonitor
    from napari_srast.training.cross_validation import score_folds
    from napari_srast.training.pipeline import train_folds
    from napari_srast.training.recipe import read_recipe

    def report(step: Progress) -> None:
        sys.stderr.write(f"\r{step.stage} {step.done}/{step.total} {step.detail}".ljust(90))

    monitor = RunMonitor(on_progress=report)
    folds = train_folds(read_recipe(path), monitor)
    with single_threaded_torch():
        return score_folds(folds, monitor)


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """Read scored rows, as training or this command wrote them."""
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
        return scores["cases"] if isinstance(scores, dict) else scores
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"'{path}' holds no scores ({error}); give the scores.json of a training.") from error


if __name__ == "__main__":
    sys.exit(main())
