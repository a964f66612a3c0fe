"""Implement ``napari-srast train``: train from a recipe and describe the checkpoint."""

from __future__ import annotations

from pathlib import Path

from napari_srast._utils.serialize import to_json_values
from napari_srast.cli.output import print_figures, print_json, progress_bar
from napari_srast.errors import Cancelled


def run(recipe: Path, *, as_json: bool) -> None:
    """Start or resume the training and print a description of the checkpoint.

    Raises
    ------
    Cancelled
        On Ctrl-C, if the work folder holds finished parts.
    """
    from napari_srast.checkpoints.storage import describe_checkpoint
    from napari_srast.training.pipeline import train_from_recipe
    from napari_srast.training.recipe import read_recipe

    try:
        with progress_bar() as report:
            checkpoint = train_from_recipe(recipe, progress=report)
    except KeyboardInterrupt:
        work = read_recipe(recipe).work
        if work.is_dir() and any(work.iterdir()):
            raise Cancelled(
                f"Stopped; what is finished is kept in '{work}', and the same command resumes there."
            ) from None
        raise
    figures = {"checkpoint": str(checkpoint), **to_json_values(describe_checkpoint(checkpoint))}
    (print_json if as_json else print_figures)(figures)
